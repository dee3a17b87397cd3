package api

import (
	"errors"
	"net/http"

	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/access/sigv4"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// lambdaService is the service that signatures on Lambda's routes are for.
const lambdaService = "lambda"

// admitLambda authenticates by a signature of AWS's, or as everywhere else by a
// bearer token, and authorises.
//
// AWS's clients do not send the body's hash along for Lambda, so their signature
// can only be checked once the body is here. Somebody who knows a valid key's id
// without its secret can thus make a node read a body; it is bounded like all.
func (in *invocation) admitLambda() (access.Principal, error) {
	if !sigv4.Signed(in.r) {
		return in.admit()
	}
	nobody, now := access.Principal{}, in.s.cfg.Clock.Now()
	claim, err := sigv4.Parse(in.r, lambdaService, now)
	if err != nil {
		return nobody, err
	}
	key, err := access.FindKey(in.s.cfg.Control.View(), claim.KeyID, now)
	if err != nil {
		return nobody, err
	}
	day, err := in.s.cfg.AccessKeys.DayKey(in.r.Context(), key, claim.Day)
	if err != nil {
		return nobody, err
	}
	if err := claim.VerifyHead(day); err != nil {
		return nobody, err
	}
	if in.s.draining.Load() {
		return nobody, invoke.ErrDraining
	}
	if err := in.take(); err != nil {
		return nobody, err
	}
	if err := claim.VerifyBody(day, in.body); err != nil {
		return nobody, err
	}
	who := access.HolderOf(key)
	return who, who.Allows(access.Invoke, in.app)
}

// lambdaStranger gives the failure to authenticate AWS's name, status and words.
// Its clients know no 401.
func lambdaStranger(err error, o outcome) (outcome, string) {
	o.status = http.StatusForbidden
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return o, string(e.Code)
	}
	kind := sigv4.UnrecognizedClient
	switch {
	case errors.Is(err, access.ErrNoToken):
		kind, o.detail = sigv4.MissingToken, "Missing Authentication Token"
	case errors.Is(err, access.ErrExpiredKey):
		kind, o.detail = sigv4.ExpiredToken, "The security token included in the request is expired"
	case errors.Is(err, access.ErrLostKey):
		o.detail = "The security token included in the request is invalid: " + access.ErrLostKey.Error() + "; create another one."
	default:
		o.detail = "The security token included in the request is invalid."
	}
	return o, string(kind)
}

// unknownOperation tells a client of AWS's that this is not for it, in a form that
// it can show.
func unknownOperation() outcome {
	return outcome{
		status: http.StatusNotFound, code: wire.CodeNotFound, resend: wire.ResendNo,
		detail: "Of AWS's operations this cluster has Lambda's Invoke only; its other routes take bearer tokens.",
	}
}
