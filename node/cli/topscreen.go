package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// What a terminal is told. They are understood by every terminal of today, so
// no library is needed to find out which.
const (
	ansiEnter   = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	ansiLeave   = "\x1b[?25h\x1b[?1049l"
	ansiHome    = "\x1b[H"
	ansiLineEnd = "\x1b[K\r\n" // wipe the rest of the line, go on below
	ansiWipe    = "\x1b[J"     // wipe all below
	ansiInverse = "\x1b[7m"
	ansiDim     = "\x1b[2m"
	ansiPlain   = "\x1b[0m"
)

const (
	// topResize is how often the terminal's size is looked at. It costs a system
	// call; a signal would not exist everywhere.
	topResize = 200 * time.Millisecond
	// topPause is the time before a broken stream is asked for again.
	topPause = time.Second
	// topGrace is how much later than its interval a report may come before the
	// stream is taken for dead: nodes wait for each other for 2 s.
	topGrace = 8 * time.Second
)

// topNews is what a stream brought: a report, or why there is none.
type topNews struct {
	top *wire.Top
	err error
}

// watchTop draws on the terminal until a key or ctx ends it. The terminal is put
// back whatever happens, a panic included.
func (a *app) watchTop(ctx context.Context, c *client.Client, query wire.TopQuery, order topOrder) error {
	in, out := a.env.Stdin.(*os.File), a.env.Stdout.(*os.File)
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("set up terminal: %w", err)
	}
	defer func() {
		_, _ = out.WriteString(ansiLeave)
		_ = term.Restore(int(in.Fd()), before)
	}()
	if _, err := out.WriteString(ansiEnter); err != nil {
		return fmt.Errorf("write to terminal: %w", err)
	}
	keys := make(chan byte)
	// Reading a terminal cannot be cut short, so this goroutine ends at the next key
	// or with the process, which ends when the command does.
	go readKeys(ctx, in, keys)
	ctx, cancel := context.WithCancel(ctx)
	news, ended := make(chan topNews), make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		followTop(ctx, c, query, news)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	s := &topScreen{out: out, order: order, interval: query.Interval, size: func() (int, int) {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}}
	return s.run(ctx, keys, news)
}

// readKeys passes on what is typed.
func readKeys(ctx context.Context, in io.Reader, keys chan<- byte) {
	buf := make([]byte, 1)
	for {
		if n, err := in.Read(buf); err != nil || n == 0 {
			return
		}
		select {
		case keys <- buf[0]:
		case <-ctx.Done():
			return
		}
	}
}

// followTop keeps a stream open, at whichever node, and tells when there is none.
func followTop(ctx context.Context, c *client.Client, query wire.TopQuery, news chan<- topNews) {
	tell := func(n topNews) {
		select {
		case news <- n:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		err := followOnce(ctx, c, query, func(top *wire.Top) { tell(topNews{top: top}) })
		if err == nil {
			err = fmt.Errorf("the node ended the stream: %w", client.ErrUnavailable)
		}
		tell(topNews{err: err})
		select {
		case <-ctx.Done():
		case <-time.After(topPause):
		}
	}
}

// followOnce reads one stream to its end. A stream that brings nothing for too long
// belongs to a node that is gone without a word.
func followOnce(ctx context.Context, c *client.Client, query wire.TopQuery, tell func(*wire.Top)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(query.Interval+topGrace, func() {
		cancel(fmt.Errorf("no report for %v: %w", query.Interval+topGrace, client.ErrUnavailable))
	})
	defer dead.Stop()
	for top, err := range c.Top(ctx, query) {
		if err != nil {
			return err
		}
		dead.Reset(query.Interval + topGrace)
		tell(&top)
	}
	return context.Cause(ctx)
}

// topScreen is what is on the terminal.
type topScreen struct {
	out      io.Writer
	size     func() (width, height int)
	interval time.Duration

	order         topOrder
	top           *wire.Top // the newest report, nil before the first
	trouble       error     // why there is no newer one
	width, height int
}

// run draws again after each report, key and change of size.
func (s *topScreen) run(ctx context.Context, keys <-chan byte, news <-chan topNews) error {
	tick := time.NewTicker(topResize)
	defer tick.Stop()
	s.width, s.height = s.size()
	for {
		if err := s.draw(); err != nil {
			return fmt.Errorf("write to terminal: %w", err)
		}
		for redraw := false; !redraw; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case n := <-news:
				redraw, s.trouble = true, n.err
				if n.top != nil {
					s.top = n.top
				}
				if n.err != nil && !passing(n.err) {
					return fmt.Errorf("watch cluster: %w", n.err)
				}
			case key := <-keys:
				if s.press(key) {
					return nil
				}
				redraw = true
			case <-tick.C:
				width, height := s.size()
				redraw = width != s.width || height != s.height
				s.width, s.height = width, height
			}
		}
	}
}

// passing tells whether trying again may help: a token does not become better.
func passing(err error) bool {
	code := exitCode(context.Background(), err)
	return code != ExitDenied && code != ExitUsage && code != ExitNotFound
}

// ctrlC is what Ctrl-C is in a raw terminal.
const ctrlC = 3

// press does what a key says and reports whether that is to end.
func (s *topScreen) press(key byte) (end bool) {
	switch key {
	case 'q', 'Q', ctrlC:
		return true
	case 'r':
		s.order.reverse = !s.order.reverse
	default:
		for _, o := range topSorts() {
			if o.key == key {
				s.order = topOrder{by: o.name}
			}
		}
	}
	return false
}

// draw writes the whole screen in one go, over what was there, so that it does not
// flicker.
func (s *topScreen) draw() error {
	var b strings.Builder
	b.WriteString(ansiHome)
	lines := s.lines()
	for i, line := range lines {
		style := ""
		switch {
		case isTitle(line):
			style = ansiInverse
			line += strings.Repeat(" ", max(s.width-len([]rune(line)), 0))
		case i == len(lines)-1:
			style = ansiDim
		}
		if style != "" {
			line = style + line + ansiPlain
		}
		b.WriteString(line)
		if i < len(lines)-1 {
			b.WriteString(ansiLineEnd)
		}
	}
	b.WriteString("\x1b[K" + ansiWipe)
	_, err := io.WriteString(s.out, b.String())
	return err
}

func isTitle(line string) bool {
	return strings.HasPrefix(line, "NODE ") || strings.HasPrefix(line, "FUNCTION ")
}

// lines are the screen without colours: the report, and at its foot what is wrong
// or what the keys do.
func (s *topScreen) lines() []string {
	foot := fmt.Sprintf("every %v, by %s%s   q quit  r reverse  sort:", s.interval, s.order.by, map[bool]string{true: " reversed"}[s.order.reverse])
	for _, o := range topSorts() {
		foot += fmt.Sprintf(" %c %s", o.key, o.name)
	}
	if s.trouble != nil {
		foot = "trying again: " + s.trouble.Error()
		if s.top != nil {
			foot = fmt.Sprintf("as of %s, trying again: %v", s.top.Time.Local().Format("15:04:05"), s.trouble)
		}
	}
	body := []string{"Waiting for the first report, which is about a whole interval…"}
	if s.top != nil {
		body = topLines(s.top, s.order, s.width, max(s.height-1, 1))
	}
	for len(body) < s.height-1 {
		body = append(body, "")
	}
	body = body[:max(min(len(body), s.height-1), 0)]
	return append(body, cut(strings.ReplaceAll(foot, "\n", " "), s.width))
}
