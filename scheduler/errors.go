package scheduler

import "errors"

var (
	// ErrNowhere says that no usable node may run the version: none is eligible, all
	// are down, or all were tried. Trying later may help.
	ErrNowhere = errors.New("no node may run this version now")

	// ErrHops says that the call was forwarded as often as it may be and this node
	// may not run it. The sender's view was old; it may try elsewhere.
	ErrHops = errors.New("forwarded too often")
)
