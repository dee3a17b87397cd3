package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	_ "image/png" // image.Decode recognises PNG.

	covey "github.com/covey-dev/covey/plugins/sdk/go"
	"golang.org/x/image/draw"
)

const (
	// maxSide is the greatest width and height of a thumbnail.
	maxSide = 4096
	// maxPixels bounds the picture before it is decoded: a file of a few kilobytes can claim gigabytes.
	maxPixels = 50_000_000
)

// thumbnail decodes, scales and encodes.
func thumbnail(r request) ([]byte, error) {
	config, format, err := image.DecodeConfig(bytes.NewReader(r.Image))
	if err != nil {
		return nil, covey.Errorf("UnsupportedImage", "want a JPEG or PNG picture: %v", err)
	}
	if config.Width <= 0 || config.Height <= 0 || config.Width > maxPixels/config.Height {
		return nil, covey.Errorf("ImageTooLarge", "the picture has %d×%d pixels, %d are allowed", config.Width, config.Height, maxPixels)
	}
	picture, _, err := image.Decode(bytes.NewReader(r.Image))
	if err != nil {
		return nil, covey.Errorf("UnsupportedImage", "decode %s: %v", format, err)
	}
	turn := orientation(r.Image)
	size := picture.Bounds().Size()
	if turn.swapsSides() {
		size.X, size.Y = size.Y, size.X
	}
	size = fit(size, r.Width, r.Height)
	if turn.swapsSides() {
		size.X, size.Y = size.Y, size.X
	}
	small := image.NewRGBA(image.Rectangle{Max: size})
	// Catmull-Rom keeps edges sharp, but its cost grows with the picture's size, so plain halving comes first. At
	// more than twice the final size halving loses nothing that would be left to see.
	source := opaque(picture)
	for source.Rect.Dx() >= 4*size.X && source.Rect.Dy() >= 4*size.Y {
		source = halve(source)
	}
	draw.CatmullRom.Scale(small, small.Bounds(), source, source.Bounds(), draw.Src, nil)
	var out bytes.Buffer
	// Turning the small picture costs a hundredth of turning the large one.
	if err := jpeg.Encode(&out, turn.apply(small), &jpeg.Options{Quality: r.Quality}); err != nil {
		return nil, fmt.Errorf("encode thumbnail: %w", err)
	}
	return out.Bytes(), nil
}

// opaque copies a picture onto white: JPEG has no transparency.
func opaque(picture image.Image) *image.RGBA {
	out := image.NewRGBA(image.Rectangle{Max: picture.Bounds().Size()})
	draw.Draw(out, out.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.Draw(out, out.Bounds(), picture, picture.Bounds().Min, draw.Over)
	return out
}

// halve returns a picture in which each pixel is the mean of four. An odd last row or column is dropped.
func halve(in *image.RGBA) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, in.Rect.Dx()/2, in.Rect.Dy()/2))
	for y := range out.Rect.Dy() {
		upper := in.Pix[2*y*in.Stride:][:in.Stride]
		lower := in.Pix[(2*y+1)*in.Stride:][:in.Stride]
		row := out.Pix[y*out.Stride:][:out.Stride]
		for i := range row {
			j := i + i&^3 // Channel i%4 of pixel i/4 lies twice as far right.
			row[i] = uint8((uint(upper[j]) + uint(upper[j+4]) + uint(lower[j]) + uint(lower[j+4]) + 2) / 4)
		}
	}
	return out
}

// fit returns the largest size with the proportions of size that fits into width × height, without
// enlarging. A bound of zero does not bound.
func fit(size image.Point, width, height int) image.Point {
	if width == 0 {
		width = maxSide
	}
	if height == 0 {
		height = maxSide
	}
	if size.X <= width && size.Y <= height {
		return size
	}
	// Compare the proportions without division: the side that is relatively longer decides.
	if size.X*height >= size.Y*width {
		return image.Pt(width, max(1, (size.Y*width+size.X/2)/size.X))
	}
	return image.Pt(max(1, (size.X*height+size.Y/2)/size.Y), height)
}
