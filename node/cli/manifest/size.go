package manifest

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseSize reads "256MiB", "256M", "1GiB" or plain bytes. Units are powers of
// 1024, with or without the "i".
func ParseSize(text string) (uint64, error) {
	digits := strings.TrimRight(text, "KMGTiBbkmgt ")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 256MiB", text)
	}
	shift, ok := map[string]int{
		"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30,
	}[strings.ToLower(strings.TrimSpace(text[len(digits):]))]
	if !ok || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is not a size such as 256MiB", text)
	}
	return n << shift, nil
}
