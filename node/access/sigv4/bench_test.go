package sigv4_test

import (
	"testing"

	"github.com/covey-dev/covey/node/access/sigv4"
)

// BenchmarkVerify is all of a verification of a real client's request, without the
// look-up of the key.
func BenchmarkVerify(b *testing.B) {
	g := readGolden(b)
	for _, c := range g.Cases {
		switch c.Name {
		case "plain", "all headers", "presigned", "large body":
		default:
			continue
		}
		b.Run(c.Name, func(b *testing.B) {
			r, body, now := request(b, c.Head), c.body(), c.signed(b)
			day := sigv4.DayKey(g.Secret, sigv4.Day(now))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				claim, err := sigv4.Parse(r, "lambda", now)
				if err == nil {
					err = claim.VerifyBody(day, body)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
