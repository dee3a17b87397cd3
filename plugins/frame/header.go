package frame

import (
	"encoding/binary"
	"fmt"
)

// HeaderSize is the length in bytes of the fixed head of every frame.
const HeaderSize = 16

// MaxPayload is the largest payload of one frame. A larger body travels in several frames, so that no
// frame keeps a shared connection busy for long and no length field can make a reader allocate more.
const MaxPayload = 1 << 20

// MaxHead is the largest encoded message head; it shares the first frame with the body.
const MaxHead = 1<<16 - 1

// ProtocolVersion is the version of this wire format that the package speaks.
const ProtocolVersion = 1

// Type says what a frame means.
type Type uint8

// The types of frames. Their numbers are part of the wire format and never change meaning.
const (
	// Hello is the first frame of each side: versions and limits.
	Hello Type = iota + 1
	// Ready says that an instance has finished its initialisation and reads calls from now on.
	Ready
	// InvokeCall opens a call of a function.
	InvokeCall
	// Chunk continues the body of the call with the same id.
	Chunk
	// Credit allows the sender of a stream so many more bytes.
	Credit
	// Cancel says that nobody waits for the call any more.
	Cancel
	// ResultReply ends a call that succeeded.
	ResultReply
	// ErrorReply ends a call that failed after it may have started.
	ErrorReply
	// RefusedReply ends a call that certainly did not start.
	RefusedReply
	// HostCallRequest opens a call from a function to its node.
	HostCallRequest
	// HostReply ends a host call that succeeded.
	HostReply
	// Drain announces that the sender takes no further calls.
	Drain
	// SetupFrame tells a runtime's process which function it becomes; see [Setup].
	SetupFrame

	typeEnd
)

var typeNames = [typeEnd]string{
	"INVALID", "HELLO", "READY", "INVOKE", "CHUNK", "CREDIT", "CANCEL", "RESULT", "ERROR", "REFUSED", "HOSTCALL", "HOSTREPLY", "DRAIN", "SETUP",
}

// String returns the name that the documents use.
func (t Type) String() string {
	if t == 0 || t >= typeEnd {
		return fmt.Sprintf("TYPE(%d)", uint8(t))
	}
	return typeNames[t]
}

// opensCall reports whether a frame of this type starts a call.
func (t Type) opensCall() bool { return t == InvokeCall || t == HostCallRequest }

// endsCall reports whether a frame of this type answers a call.
func (t Type) endsCall() bool {
	return t == ResultReply || t == ErrorReply || t == RefusedReply || t == HostReply
}

// Flags modify a frame.
type Flags uint8

const (
	// FlagMore says that the body follows in CHUNK frames; this frame carries its length instead.
	FlagMore Flags = 1 << iota
	// FlagStream says that a body of unknown length follows in CHUNK frames, paced by CREDIT.
	FlagStream
	// FlagEnd marks the last CHUNK of a body.
	FlagEnd
	// FlagLane marks a HELLO that hands over another connection (a descriptor beside the bytes).
	FlagLane
	// FlagAnswer tells a CHUNK of an answer from a CHUNK of a call: each side numbers its own calls.
	FlagAnswer
)

// Header is the fixed head of a frame: little endian, payload length u32, type u8, flags u8, head length
// u16, call id u64. The first Head bytes of the payload are the message's head, the rest its body.
type Header struct {
	Length uint32
	Type   Type
	Flags  Flags
	Head   uint16
	ID     uint64
}

// AppendTo appends the sixteen bytes of the header.
func (h Header) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, h.Length)
	b = append(b, byte(h.Type), byte(h.Flags))
	b = binary.LittleEndian.AppendUint16(b, h.Head)
	return binary.LittleEndian.AppendUint64(b, h.ID)
}

// ParseHeader decodes and checks a header. b must hold at least HeaderSize bytes. Its errors wrap
// [ErrProtocol], after which nothing more can be read from the connection.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: header of %d bytes", ErrProtocol, len(b))
	}
	h := Header{
		Length: binary.LittleEndian.Uint32(b),
		Type:   Type(b[4]),
		Flags:  Flags(b[5]),
		Head:   binary.LittleEndian.Uint16(b[6:]),
		ID:     binary.LittleEndian.Uint64(b[8:]),
	}
	switch {
	case h.Length > MaxPayload:
		return Header{}, fmt.Errorf("%w: payload of %d bytes", ErrProtocol, h.Length)
	case h.Type == 0 || h.Type >= typeEnd:
		return Header{}, fmt.Errorf("%w: frame %s", ErrProtocol, h.Type)
	case uint32(h.Head) > h.Length:
		return Header{}, fmt.Errorf("%w: head of %d bytes in a payload of %d", ErrProtocol, h.Head, h.Length)
	}
	return h, nil
}
