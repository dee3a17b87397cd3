// Command genphoto draws the photograph-sized picture that demo and tests use: mountains at dusk over a lake,
// from noise alone, the same bytes each time. It is free of anybody's rights.
package main

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"os"
)

const (
	width, height = 3000, 2000
	horizon       = 1250
	quality       = 80
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: genphoto FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "genphoto:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := jpeg.Encode(w, draw(), &jpeg.Options{Quality: quality}); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return f.Close()
}

// pixel is a colour while it is being mixed, each part from 0 to 1.
type pixel struct{ r, g, b float64 }

func mix(a, b pixel, t float64) pixel {
	t = math.Max(0, math.Min(1, t))
	return pixel{a.r + (b.r-a.r)*t, a.g + (b.g-a.g)*t, a.b + (b.b-a.b)*t}
}

func (p pixel) rgba() color.RGBA {
	part := func(v float64) uint8 { return uint8(math.Round(255 * math.Max(0, math.Min(1, v)))) }
	return color.RGBA{part(p.r), part(p.g), part(p.b), 255}
}

// draw paints every pixel on its own: the land above the horizon, its reflection below.
func draw() image.Image {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			fx, fy := float64(x), float64(y)
			p := land(fx, fy)
			if y > horizon {
				p = water(fx, fy)
			}
			img.SetRGBA(x, y, p.rgba())
		}
	}
	return img
}

// land is what stands above the horizon: sky, sun, clouds, and ridges that grow darker as they come nearer.
func land(x, y float64) pixel {
	p := mix(pixel{0.16, 0.22, 0.42}, pixel{0.98, 0.66, 0.40}, math.Pow(y/horizon, 1.6))
	sun := math.Hypot(x-2050, (y-900)*1.05)
	p = mix(p, pixel{1, 0.93, 0.72}, math.Exp(-sun/180))
	cloud := fractal(x/520, y/130, 5)
	p = mix(p, pixel{0.99, 0.80, 0.70}, (cloud-0.52)*2.2*(1-y/horizon*0.5))
	for i := range 5 {
		n := float64(i)
		base := 820 + n*85
		ridge := base - 330*(1-n*0.12)*(fractal(x/(620-n*70)+n*31, n*7.3, 7)-0.25)
		if y < ridge {
			continue
		}
		haze := math.Max(0, 1-n/4.5)
		rock := mix(pixel{0.05, 0.08, 0.10}, pixel{0.72, 0.53, 0.50}, haze)
		texture := fractal(x/38+n*11, y/24, 3) - 0.5
		p = mix(rock, pixel{0.95, 0.72, 0.55}, 0.16*haze*(y-ridge)/200)
		p = pixel{p.r + texture*0.07, p.g + texture*0.075, p.b + texture*0.06}
	}
	return p
}

// water mirrors the land, torn by waves that are longer the nearer they are.
func water(x, y float64) pixel {
	depth := (y - horizon) / (height - horizon)
	wave := fractal(x/(60+depth*260), y/(5+depth*26), 3) - 0.5
	p := land(x+wave*60*(0.3+depth), math.Max(0, horizon-(y-horizon)*1.35+wave*90*(0.2+depth)))
	p = mix(p, pixel{0.07, 0.13, 0.22}, 0.28+0.35*depth)
	return pixel{p.r + wave*0.09, p.g + wave*0.09, p.b + wave*0.10}
}

// fractal adds octaves of noise; the result lies between 0 and 1.
func fractal(x, y float64, octaves int) float64 {
	sum, amplitude, total := 0.0, 1.0, 0.0
	for range octaves {
		sum += amplitude * noise(x, y)
		total += amplitude
		amplitude /= 2
		x, y = x*2+17.3, y*2+9.1
	}
	return sum / total
}

// noise interpolates smoothly between random values on a grid.
func noise(x, y float64) float64 {
	x0, y0 := math.Floor(x), math.Floor(y)
	smooth := func(t float64) float64 { return t * t * (3 - 2*t) }
	u, v := smooth(x-x0), smooth(y-y0)
	ix, iy := int64(x0), int64(y0)
	top := lattice(ix, iy)*(1-u) + lattice(ix+1, iy)*u
	bottom := lattice(ix, iy+1)*(1-u) + lattice(ix+1, iy+1)*u
	return top*(1-v) + bottom*v
}

// lattice is a hash of two integers, from 0 to 1.
func lattice(x, y int64) float64 {
	h := uint64(x)*0x9e3779b97f4a7c15 ^ uint64(y)*0xc2b2ae3d27d4eb4f
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 32
	return float64(h>>11) / (1 << 53)
}
