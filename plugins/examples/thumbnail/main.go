// Command thumbnail makes a small JPEG of a JPEG or PNG picture. The payload is the picture itself, with the
// size in the attributes "width", "height" and "quality", or a JSON envelope:
//
//	{"image": "<base64>", "width": 320, "height": 320, "quality": 85}
//
// The result fits into width × height and keeps the picture's proportions; it is never larger than the
// picture. Pictures that a camera stored turned come out upright.
package main

import (
	"context"
	"encoding/json"
	"strconv"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

//go:generate go run ./genphoto testdata/photo.jpg

func main() { covey.Serve(handle) }

// request is what is asked for.
type request struct {
	Image   []byte `json:"image"`
	Width   int    `json:"width"`
	Height  int    `json:"height"`
	Quality int    `json:"quality"`
}

// handle is the function.
func handle(ctx context.Context, payload []byte) ([]byte, error) {
	r, err := parse(payload, covey.FromContext(ctx).Attributes)
	if err != nil {
		return nil, err
	}
	out, err := thumbnail(r)
	if err != nil {
		return nil, err
	}
	covey.SetContentType(ctx, "image/jpeg")
	return out, nil
}

// parse reads either form of the input and fills in what is not given.
func parse(payload []byte, attributes map[string]string) (request, error) {
	var r request
	if len(payload) > 0 && payload[0] == '{' { // No picture begins so.
		if err := json.Unmarshal(payload, &r); err != nil {
			return request{}, covey.Errorf("InvalidInput", "decode envelope: %v", err)
		}
	} else {
		r.Image = payload
		for name, field := range map[string]*int{"width": &r.Width, "height": &r.Height, "quality": &r.Quality} {
			text, ok := attributes[name]
			if !ok {
				continue
			}
			n, err := strconv.Atoi(text)
			if err != nil {
				return request{}, covey.Errorf("InvalidInput", "%s is %q, want a number", name, text)
			}
			*field = n
		}
	}
	if r.Width == 0 && r.Height == 0 {
		r.Width, r.Height = 320, 320
	}
	if r.Quality == 0 {
		r.Quality = 85
	}
	if r.Width < 0 || r.Height < 0 || r.Width > maxSide || r.Height > maxSide || r.Quality < 1 || r.Quality > 100 {
		return request{}, covey.Errorf("InvalidInput", "size %d×%d and quality %d are out of range", r.Width, r.Height, r.Quality)
	}
	return r, nil
}
