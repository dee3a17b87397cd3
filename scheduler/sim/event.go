package sim

// eventKind says what happens.
type eventKind uint8

const (
	// eventCPU: the next job of a node is done, unless gen is old.
	eventCPU eventKind = iota
	// eventDeliver: a call reaches the node that shall run it.
	eventDeliver
	// eventReply: the answer to a call reaches its entry.
	eventReply
	// eventRefused: a refusal, or the lack of a link, reaches the entry.
	eventRefused
	// eventArrive: a client comes back after it was sent away.
	eventArrive
	// eventStarved: a pool may ask for memory again.
	eventStarved
	// eventFail and eventRecover end a node and bring it back.
	eventFail
	eventRecover
	// eventTick: once a second of virtual time.
	eventTick
	// eventPolicy belongs to the policy.
	eventPolicy
)

// event is something that happens at a time. Events of the same time happen in
// the order in which they were made, which keeps runs repeatable.
type event struct {
	at     int64
	serial uint64
	kind   eventKind
	node   int32
	gen    uint32
	call   *call
	pool   *pool
}

// events is a heap of four children per parent: flatter than two, so fewer
// misses.
type events struct {
	list   []event
	serial uint64
}

func (h *events) before(a, b *event) bool {
	return a.at < b.at || (a.at == b.at && a.serial < b.serial)
}

func (h *events) push(e event) {
	h.serial++
	e.serial = h.serial
	h.list = append(h.list, e)
	i := len(h.list) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !h.before(&e, &h.list[parent]) {
			break
		}
		h.list[i] = h.list[parent]
		i = parent
	}
	h.list[i] = e
}

func (h *events) pop() event {
	top := h.list[0]
	last := h.list[len(h.list)-1]
	h.list[len(h.list)-1] = event{}
	h.list = h.list[:len(h.list)-1]
	n := len(h.list)
	if n == 0 {
		return top
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= n {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, n); c++ {
			if h.before(&h.list[c], &h.list[least]) {
				least = c
			}
		}
		if !h.before(&h.list[least], &last) {
			break
		}
		h.list[i] = h.list[least]
		i = least
	}
	h.list[i] = last
	return top
}
