package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"testing"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// photo is a picture as large as a camera's.
func photo(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/photo.jpg")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run calls the function with attributes.
func run(t testing.TB, payload []byte, attributes map[string]string) (image.Image, error) {
	t.Helper()
	ctx := covey.NewContext(t.Context(), covey.Invocation{Attributes: attributes})
	out, err := handle(ctx, payload)
	if err != nil {
		return nil, err
	}
	small, err := jpeg.Decode(bytes.NewReader(out))
	if err != nil {
		t.Fatalf("the output is no JPEG: %v", err)
	}
	return small, nil
}

// brightness is the mean of a part of a picture, from 0 to 255, at some ten thousand points.
func brightness(img image.Image, r image.Rectangle) float64 {
	sum, n := 0.0, 0
	for y := r.Min.Y; y < r.Max.Y; y += max(1, r.Dy()/100) {
		for x := r.Min.X; x < r.Max.X; x += max(1, r.Dx()/100) {
			c, ok := color.GrayModel.Convert(img.At(x, y)).(color.Gray)
			if ok {
				sum += float64(c.Y)
				n++
			}
		}
	}
	return sum / float64(n)
}

func TestPhotoBecomesThumbnail(t *testing.T) {
	t.Parallel()
	file := photo(t)
	large, err := jpeg.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if got := large.Bounds().Size(); got != image.Pt(3000, 2000) {
		t.Fatalf("the photograph has %v pixels", got)
	}
	small, err := run(t, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := small.Bounds().Size(); got != image.Pt(320, 213) {
		t.Errorf("the thumbnail has %v pixels", got)
	}
	// It must show the same: each ninth of the thumbnail is about as bright as that of the photograph.
	for i := range 9 {
		ninth := func(img image.Image) image.Rectangle {
			w, h := img.Bounds().Dx()/3, img.Bounds().Dy()/3
			return image.Rect(i%3*w, i/3*h, (i%3+1)*w, (i/3+1)*h)
		}
		a, b := brightness(large, ninth(large)), brightness(small, ninth(small))
		if math.Abs(a-b) > 6 {
			t.Errorf("part %d: brightness %.0f became %.0f", i, a, b)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	picture := encode(t, image.NewRGBA(image.Rect(0, 0, 600, 300)))
	cases := []struct {
		name       string
		attributes map[string]string
		want       image.Point
	}{
		{"default", nil, image.Pt(320, 160)},
		{"width only", map[string]string{"width": "100"}, image.Pt(100, 50)},
		{"height only", map[string]string{"height": "100"}, image.Pt(200, 100)},
		{"both", map[string]string{"width": "300", "height": "30"}, image.Pt(60, 30)},
		{"never larger", map[string]string{"width": "4000", "height": "4000"}, image.Pt(600, 300)},
		{"never empty", map[string]string{"width": "1"}, image.Pt(1, 1)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			small, err := run(t, picture, c.attributes)
			if err != nil || small.Bounds().Size() != c.want {
				t.Errorf("got %v, %v; want %v", small, err, c.want)
			}
		})
	}
}

// encode makes a PNG.
func encode(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	picture := encode(t, image.NewRGBA(image.Rect(0, 0, 600, 400)))
	payload, err := json.Marshal(request{Image: picture, Width: 90, Height: 90, Quality: 50})
	if err != nil {
		t.Fatal(err)
	}
	small, err := run(t, payload, nil)
	if err != nil || small.Bounds().Size() != image.Pt(90, 60) {
		t.Errorf("got %v, %v", small, err)
	}
}

func TestTransparencyBecomesWhite(t *testing.T) {
	t.Parallel()
	small, err := run(t, encode(t, image.NewRGBA(image.Rect(0, 0, 50, 50))), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := brightness(small, small.Bounds()); got < 250 {
		t.Errorf("brightness %.0f, want white", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	picture := encode(t, image.NewRGBA(image.Rect(0, 0, 2, 2)))
	// A PNG header alone claims the size; nothing may be allocated for it.
	bomb := bytes.Clone(picture)
	binary.BigEndian.PutUint32(bomb[16:], 1<<20)
	binary.BigEndian.PutUint32(bomb[20:], 1<<10)
	binary.BigEndian.PutUint32(bomb[29:], crc32.ChecksumIEEE(bomb[12:29]))
	cases := []struct {
		name, typ  string
		payload    []byte
		attributes map[string]string
	}{
		{"empty", "UnsupportedImage", nil, nil},
		{"text", "UnsupportedImage", []byte("hello"), nil},
		{"cut off", "UnsupportedImage", photo(t)[:50_000], nil},
		{"bomb", "ImageTooLarge", bomb, nil},
		{"bad envelope", "InvalidInput", []byte("{"), nil},
		{"bad width", "InvalidInput", picture, map[string]string{"width": "wide"}},
		{"negative", "InvalidInput", picture, map[string]string{"height": "-1"}},
		{"too wide", "InvalidInput", picture, map[string]string{"width": "5000"}},
		{"bad quality", "InvalidInput", picture, map[string]string{"quality": "101"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := run(t, c.payload, c.attributes)
			if e, ok := errors.AsType[*covey.Error](err); !ok || e.Type != c.typ {
				t.Errorf("got %v, want %s", err, c.typ)
			}
		})
	}
}

// withOrientation puts an Exif segment into a JPEG.
func withOrientation(file []byte, n byte) []byte {
	tiff := "II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00" + string(n) + "\x00\x00\x00"
	segment := "\xff\xe1\x00" + string(rune(2+6+len(tiff))) + "Exif\x00\x00" + tiff
	return append([]byte("\xff\xd8"+segment), file[2:]...)
}

// TestOrientation stores a picture with one bright corner in all eight ways; upright, the corner is at the top left.
func TestOrientation(t *testing.T) {
	t.Parallel()
	corners := map[byte]image.Point{
		1: {0, 0}, 2: {1, 0}, 3: {1, 1}, 4: {0, 1}, 5: {0, 0}, 6: {0, 1}, 7: {1, 1}, 8: {1, 0},
	}
	for n, corner := range corners {
		stored := image.NewGray(image.Rect(0, 0, 80, 40))
		for y := corner.Y * 20; y < corner.Y*20+20; y++ {
			for x := corner.X * 40; x < corner.X*40+40; x++ {
				stored.SetGray(x, y, color.Gray{255})
			}
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, stored, nil); err != nil {
			t.Fatal(err)
		}
		small, err := run(t, withOrientation(b.Bytes(), n), nil)
		if err != nil {
			t.Fatal(err)
		}
		size := small.Bounds().Size()
		if wide := n < 5; wide != (size.X > size.Y) {
			t.Errorf("orientation %d: the result has %v pixels", n, size)
		}
		if got := brightness(small, image.Rectangle{Max: size.Div(2)}); got < 200 {
			t.Errorf("orientation %d: the top left has brightness %.0f", n, got)
		}
	}
}

func FuzzOrientation(f *testing.F) {
	f.Add(withOrientation([]byte("\xff\xd8\xff\xda\x00\x02"), 6))
	f.Add([]byte("\xff\xd8\xff\xe1\x00\x08Exif\x00\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if got := orientation(file); got < 1 || got > 8 {
			t.Errorf("orientation %d", got)
		}
	})
}

func BenchmarkThumbnail(b *testing.B) {
	file := photo(b)
	for b.Loop() {
		if _, err := handle(context.Background(), file); err != nil {
			b.Fatal(err)
		}
	}
}
