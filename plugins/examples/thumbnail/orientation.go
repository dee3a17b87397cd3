package main

import (
	"bytes"
	"encoding/binary"
	"image"
)

// turned is the orientation that a camera noted in the file: 1 is upright, the others are the numbers of Exif.
type turned uint16

// orientation finds the Exif orientation of a JPEG. Anything that is missing or malformed counts as upright.
func orientation(file []byte) turned {
	if !bytes.HasPrefix(file, []byte{0xff, 0xd8}) {
		return 1
	}
	for file = file[2:]; len(file) >= 4 && file[0] == 0xff; {
		marker, size := file[1], int(binary.BigEndian.Uint16(file[2:]))
		if marker == 0xda || size < 2 || len(file) < 2+size {
			return 1 // The picture itself begins, or the file is cut off.
		}
		if segment := file[4 : 2+size]; marker == 0xe1 && bytes.HasPrefix(segment, []byte("Exif\x00\x00")) {
			return tiffOrientation(segment[6:])
		}
		file = file[2+size:]
	}
	return 1
}

// tiffOrientation reads tag 0x0112 of the first directory.
func tiffOrientation(tiff []byte) turned {
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	offset := uint64(order.Uint32(tiff[4:]))
	if offset+2 > uint64(len(tiff)) {
		return 1
	}
	entries := tiff[offset+2:]
	for range order.Uint16(tiff[offset:]) {
		if len(entries) < 12 {
			return 1
		}
		if order.Uint16(entries) == 0x0112 {
			if t := turned(order.Uint16(entries[8:])); t >= 1 && t <= 8 {
				return t
			}
			return 1
		}
		entries = entries[12:]
	}
	return 1
}

// swapsSides reports whether the upright picture is as wide as the stored one is high.
func (t turned) swapsSides() bool { return t >= 5 }

// apply returns the upright picture.
func (t turned) apply(stored *image.RGBA) *image.RGBA {
	if t == 1 {
		return stored
	}
	size := stored.Bounds().Size()
	w, h := size.X-1, size.Y-1
	if t.swapsSides() {
		size.X, size.Y = size.Y, size.X
	}
	upright := image.NewRGBA(image.Rectangle{Max: size})
	for y := range size.Y {
		for x := range size.X {
			from := [...]image.Point{
				2: {w - x, y}, 3: {w - x, h - y}, 4: {x, h - y},
				5: {y, x}, 6: {y, h - x}, 7: {w - y, h - x}, 8: {w - y, x},
			}[t]
			upright.SetRGBA(x, y, stored.RGBAAt(from.X, from.Y))
		}
	}
	return upright
}
