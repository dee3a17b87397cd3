package assign

import "github.com/covey-dev/covey/cluster/clusterpb"

const (
	// batchChanges and batchPlaces bound one command to about a megabyte, so
	// that a plan of a large cluster does not stall other writes behind it.
	batchChanges = 512
	batchPlaces  = 16_384
)

// Commands packs changes into as few commands as their bounds allow, in order.
// The proposer fills in level, time and id.
func Commands(changes []Change) []*clusterpb.Command {
	var cmds []*clusterpb.Command
	var op *clusterpb.PutAssignments
	count, places := 0, 0
	for _, c := range changes {
		size := 0
		if c.Put != nil {
			size = len(c.Put.Places)
		}
		if op == nil || count == batchChanges || places+size > batchPlaces {
			op, count, places = new(clusterpb.PutAssignments), 0, 0
			cmds = append(cmds, &clusterpb.Command{Op: &clusterpb.Command_PutAssignments{PutAssignments: op}})
		}
		if c.Put != nil {
			op.Put = append(op.Put, c.Put.PB())
		} else {
			op.Drop = append(op.Drop, c.Version.Ref())
		}
		count, places = count+1, places+size
	}
	return cmds
}
