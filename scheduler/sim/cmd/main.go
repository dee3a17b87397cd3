// Command cmd runs the scheduler's simulations; `make sim` calls it.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/covey-dev/covey/scheduler/sim/sweep"
)

func main() {
	quick := flag.Bool("quick", false, "a part of the sweep, within two minutes")
	document := flag.String("write", "", "the document that gets table and charts")
	flag.Parse()
	rs, err := sweep.Run(sweep.Options{Quick: *quick, Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
	fmt.Println(rs.Table())
	fmt.Println(rs.Sweeps())
	if *document == "" {
		return
	}
	if err := rs.Write(*document); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}
