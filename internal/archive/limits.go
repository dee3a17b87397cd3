package archive

import (
	"errors"
	"fmt"
)

// The limits of DefaultLimits.
const (
	// MaxBytes is what AWS Lambda allows a function to have unzipped.
	MaxBytes = 250 << 20
	maxFiles = 100_000
	maxName  = 1024
	// maxPart is what file systems of Linux take as one component of a path.
	maxPart = 255
	// maxLink bounds the target of a symbolic link.
	maxLink = 1024
	// maxRecord is what one file may take in the directory of an archive on
	// average: a header, a name, some extra fields.
	maxRecord = 256
)

// Limits bound what an archive may hold. Start from DefaultLimits.
type Limits struct {
	// Bytes is the size of all files together, unpacked.
	Bytes int64
	// Files is the number of files, folders and links.
	Files int
}

// DefaultLimits returns the limits that deploys are held to.
func DefaultLimits() Limits { return Limits{Bytes: MaxBytes, Files: maxFiles} }

var (
	// ErrTooLarge is wrapped by the error for an archive or a folder beyond its
	// Limits. Leave something out, or split the function.
	ErrTooLarge = errors.New("too large")
	// ErrRefused is wrapped by the error for an archive or a folder with something
	// in it that code cannot have: a name that leads outside, a device, the
	// same name twice, a kind of compression that nobody knows. Pack it anew.
	ErrRefused = errors.New("refused")
	// ErrNotZip is wrapped by the error for bytes that are no zip.
	ErrNotZip = errors.New("not a zip")
)

// refuse says what is wrong with one entry.
func refuse(name, format string, args ...any) error {
	return fmt.Errorf("%q %s: %w", name, fmt.Sprintf(format, args...), ErrRefused)
}

// mebibytes shows a size to people.
func mebibytes(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d MiB", (n+(1<<20)-1)>>20)
}

// check holds files and bytes against the limits.
func (l Limits) check(files int, bytes int64) error {
	if files > l.Files {
		return fmt.Errorf("%d files, at most %d are allowed: %w", files, l.Files, ErrTooLarge)
	}
	if bytes > l.Bytes || bytes < 0 {
		return fmt.Errorf("%s unpacked, at most %s are allowed: %w", mebibytes(bytes), mebibytes(l.Bytes), ErrTooLarge)
	}
	return nil
}
