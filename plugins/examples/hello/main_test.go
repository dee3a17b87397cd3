package main

import (
	"errors"
	"testing"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

func TestGreet(t *testing.T) {
	t.Parallel()
	ctx := covey.NewContext(t.Context(), covey.Invocation{RequestID: "test"})
	got, err := greet(ctx, request{Name: "quail"})
	if err != nil || got.Greeting != "Hello, quail!" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := greet(ctx, request{}); err == nil {
		t.Error("an empty name was greeted")
	} else if e, ok := errors.AsType[*covey.Error](err); !ok || e.Type != "MissingName" {
		t.Errorf("got %v", err)
	}
}
