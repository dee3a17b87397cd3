package loopback

import (
	"net"
	"testing"
)

func TestAddressesAreKeptApart(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 50 {
		address := Address(t)
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
}

func TestTakenPortsAreLeftOut(t *testing.T) {
	t.Parallel()
	address := Address(t)
	l, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if free(address) {
		t.Errorf("%s is thought free", address)
	}
}
