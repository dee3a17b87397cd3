package node

import (
	"bytes"
	"os"
	"strconv"
)

// machineTicks tells how long the machine's processors were busy since it started,
// and how long in all, in ticks. Both are zero when the kernel does not tell.
func machineTicks() (busy, total uint64) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	return ticksOf(raw)
}

// ticksOf reads the first line of /proc/stat: "cpu", then the time as user, nice,
// system, idle, waiting for disks, and more kinds of work. Guests' time comes last
// and is in the user's already.
func ticksOf(stat []byte) (busy, total uint64) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 5 || string(fields[0]) != "cpu" {
		return 0, 0
	}
	for i, field := range fields[1:min(len(fields), 9)] {
		n, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return 0, 0
		}
		total += n
		if idle := i == 3 || i == 4; !idle {
			busy += n
		}
	}
	return busy, total
}
