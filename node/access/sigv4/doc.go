// Package sigv4 checks AWS's Signature Version 4 on HTTP requests: the one that
// AWS's own clients put into the Authorization header, and the one of a presigned
// URL. Who a key belongs to and what it may do is the caller's business.
//
// A signature covers the method, the path, the whole query, the headers that it
// names and the body's SHA-256. [Parse] reads it and refuses whatever needs no
// secret to be refused; the caller then finds the [Key] of the access key and the
// day, and lets [Claim.VerifyHead] and [Claim.VerifyBody] compare. Every header
// X-Amz-… must be covered. Others need not be, as with AWS: a client that wants
// Content-Type protected signs it.
//
// # What it does not do
//
// A request can be repeated by whoever has seen it until its time runs out: five
// minutes after it was signed, or what a presigned URL says. Nothing is remembered
// of earlier requests, so TLS is what keeps them from being seen. Temporary
// credentials (X-Amz-Security-Token), unsigned and chunk-signed bodies and SigV4A
// are refused.
package sigv4
