// Command hello greets in JSON. It is the function that docs/functions/go.md builds.
package main

import (
	"context"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

type request struct {
	Name string `json:"name"`
}

type response struct {
	Greeting string `json:"greeting"`
}

func main() { covey.ServeJSON(greet) }

// greet refuses an empty name with a typed error, so that callers can tell it from other failures.
func greet(ctx context.Context, in request) (response, error) {
	if in.Name == "" {
		return response{}, covey.Errorf("MissingName", "the input has no name")
	}
	covey.Logger(ctx).Info("greeting", "name", in.Name)
	return response{Greeting: "Hello, " + in.Name + "!"}, nil
}
