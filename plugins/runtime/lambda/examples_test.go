package lambda_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// example is the folder of an example as a package's.
func example(t *testing.T, name string) string {
	t.Helper()
	code, err := filepath.Abs(filepath.Join("..", "..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestExampleInGo(t *testing.T) {
	t.Parallel()
	b := startWith(t, setupOf(build(t, "github.com/covey-dev/covey/plugins/examples/lambda-go"), ""))
	got := b.invoke(t, "a", []byte(`{"Records":[
		{"messageId":"one","body":"{\"id\":\"1\",\"lines\":[{\"item\":\"nest\",\"count\":2,\"cents\":150}]}"},
		{"messageId":"two","body":"what?"}]}`))
	if string(got) != `{"batchItemFailures":[{"itemIdentifier":"two"}]}` {
		t.Errorf("got %s", got)
	}
	b.reported(t, "a")
	if lines := messages(b.lines("a")); !strings.Contains(lines, "order booked\norder refused\n") {
		t.Errorf("lines %q", lines)
	}
}

func TestExampleInPython(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	b := startWith(t, setupOf(example(t, "lambda-python"), ""))
	for body, want := range map[string]string{
		"item,count,price\nnest,2,1.50\negg,12,0.20\nnest,1,1.40\n": `200 {"rows": 3, "items": [{"item": "egg", "count": 12, "total": "2.40"}, {"item": "nest", "count": 3, "total": "4.40"}]}`,
		"item,count,price\nnest,many,1\n":                           `400 {"error": "row 1 is not item, count, price"}`,
	} {
		event, err := json.Marshal(map[string]any{"version": "2.0", "rawPath": "/sales", "body": body})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			StatusCode json.Number `json:"statusCode"`
			Body       string      `json:"body"`
		}
		if err := json.Unmarshal(b.invoke(t, "a", event), &got); err != nil {
			t.Fatal(err)
		}
		if answer := got.StatusCode.String() + " " + got.Body; answer != want {
			t.Errorf("got %s, want %s", answer, want)
		}
	}
}

func TestExampleInNode(t *testing.T) {
	t.Parallel()
	need(t, "node")
	b := startWith(t, setupOf(example(t, "lambda-node"), "index.handler"))
	reply, err := b.conn.Invoke(t.Context(), newCall("a", []byte(`{"queryStringParameters":{"count":"x"}}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	_ = reply.Stream.Close()
	if reply.Status != 400 || reply.Attributes.Get("x-request") != "a" || !strings.HasPrefix(reply.ContentType, "text/html") {
		t.Errorf("got %+v", reply.Result)
	}
	got := string(b.invoke(t, "b", []byte(`{"queryStringParameters":{"count":"2","title":"<Birds>"}}`)))
	if want := "<h1>&#60;Birds&#62;</h1>\n<ol>\n<li value=\"1\">quail</li>\n<li value=\"2\">wren</li>\n</ol>\n"; got != want {
		t.Errorf("got %q", got)
	}
}
