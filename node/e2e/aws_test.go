package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
)

// The clients of AWS as Debian packages them. Others on the PATH are not asked:
// what CI installs is what is tested.
const (
	awsPython = "/usr/bin/python3"
	awsCLI    = "/usr/bin/aws"
)

// needAWS skips a test that needs a client of AWS's, but fails it in CI, which
// installs them.
func needAWS(t *testing.T, command string, check ...string) {
	t.Helper()
	err := exec.Command(command, check...).Run()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must have %s: %v", command, err)
	}
	t.Skipf("%s %s: %v (Debian's packages python3-boto3 and awscli)", command, strings.Join(check, " "), err)
}

// accessKey makes an access key with the command that an operator uses.
func (c *cluster) accessKey(args ...string) (id, secret string) {
	c.t.Helper()
	out := c.covey(append([]string{"token", "create", "--kind", "aws-key", "--data-dir", c.nodes[0].dir}, args...)...)
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "export AWS_ACCESS_KEY_ID":
			id = value
		case "export AWS_SECRET_ACCESS_KEY":
			secret = value
		}
	}
	if id == "" || secret == "" {
		c.t.Fatalf("token create printed %q", out)
	}
	return id, secret
}

// awsCluster is a node with the examples echo and hello.
func awsCluster(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, 1)
	for _, name := range []string{"echo", "hello"} {
		nodetest.Deploy(t, c.client(), name, filepath.Join(filepath.Dir(coveyBin), name), wire.FunctionSpec{})
	}
	return c
}

// invocation is a case of testdata/invoke.py.
type invocation struct {
	Name    string         `json:"name"`
	ID      string         `json:"id"`
	Secret  string         `json:"secret"`
	Session string         `json:"session,omitempty"`
	Region  string         `json:"region,omitempty"`
	Params  map[string]any `json:"params"`
	Repeat  int            `json:"repeat,omitempty"`
	want    invoked
}

// invoked is what came of it; empty fields of a wanted one are not compared.
type invoked struct {
	Status        int    `json:"status"`
	Length        int    `json:"length"`
	Payload       string `json:"payload"`
	Version       string `json:"version"`
	FunctionError string `json:"function_error"`
	Log           string `json:"log"`
	Code          string `json:"code"`
	Message       string `json:"message"`
	Class         string `json:"class"`
	RequestID     string `json:"request_id"`
}

// compare tells how the result differs from what is wanted: its texts must contain
// the wanted ones, and there is no error, function's or other, but a wanted one.
func (got invoked) compare(t *testing.T, want invoked) {
	t.Helper()
	if got.Status != want.Status || want.Length != 0 && got.Length != want.Length || got.RequestID == "" {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, text := range []struct{ name, got, want string }{
		{"payload", got.Payload, want.Payload},
		{"version", got.Version, want.Version},
		{"log", got.Log, want.Log},
		{"message", got.Message, want.Message},
		{"class", got.Class, want.Class},
	} {
		if !strings.Contains(text.got, text.want) {
			t.Errorf("%s is %q, want %q", text.name, text.got, text.want)
		}
	}
	if got.Code != want.Code || got.FunctionError != want.FunctionError {
		t.Errorf("errors are %q and %q, want %q and %q", got.Code, got.FunctionError, want.Code, want.FunctionError)
	}
}

// TestBoto3Invokes runs AWS's own Python client against a node.
func TestBoto3Invokes(t *testing.T) {
	t.Parallel()
	needAWS(t, awsPython, "-c", "import boto3")
	c := awsCluster(t)
	id, secret := c.accessKey()
	readID, readSecret := c.accessKey("--scope", "read")
	endedID, endedSecret := c.accessKey("--ttl", "1s")
	made := time.Now()
	right := func(i invocation) invocation {
		i.ID, i.Secret = id, secret
		return i
	}
	p := func(function string, more ...any) map[string]any {
		m := map[string]any{"FunctionName": function, "Payload": `{"name":"you"}`}
		for i := 0; i+1 < len(more); i += 2 {
			m[more[i].(string)] = more[i+1]
		}
		return m
	}
	const greeting = `{"greeting":"Hello, you!"}`
	const arn = "arn:aws:lambda:eu-central-1:123456789012:function:hello"
	cases := []invocation{
		right(invocation{Name: "plain", Params: p("hello"), want: invoked{Status: 200, Payload: greeting, Version: "1"}}),
		right(invocation{Name: "another region", Region: "us-gov-west-1", Params: p("hello"), want: invoked{Status: 200, Payload: greeting}}),
		right(invocation{Name: "alias", Params: p("hello", "Qualifier", "live"), want: invoked{Status: 200, Payload: greeting, Version: "1"}}),
		right(invocation{Name: "latest", Params: p("hello", "Qualifier", "$LATEST"), want: invoked{Status: 200, Payload: greeting}}),
		right(invocation{Name: "version", Params: p("hello", "Qualifier", "1"), want: invoked{Status: 200, Payload: greeting}}),
		right(invocation{Name: "no such version", Params: p("hello", "Qualifier", "7"), want: invoked{Status: 404, Code: "ResourceNotFoundException", Class: "ResourceNotFoundException"}}),
		right(invocation{Name: "arn", Params: p(arn), want: invoked{Status: 200, Payload: greeting}}),
		right(invocation{Name: "qualified arn", Params: p(arn + ":live"), want: invoked{Status: 200, Payload: greeting}}),
		right(invocation{Name: "app and name", Params: p("default/hello"), want: invoked{Status: 200, Payload: greeting}}),
		right(invocation{Name: "no payload", Params: map[string]any{"FunctionName": "echo"}, want: invoked{Status: 200}}),
		right(invocation{Name: "a mebibyte", Repeat: 1<<20 - 2, Params: p("echo"), want: invoked{Status: 200, Length: 1 << 20}}),
		right(invocation{Name: "too large", Repeat: 6<<20 + 1, Params: p("echo"), want: invoked{Status: 413, Code: "RequestTooLargeException", Class: "RequestTooLargeException"}}),
		right(invocation{Name: "dry run", Params: p("hello", "InvocationType", "DryRun"), want: invoked{Status: 204}}),
		right(invocation{Name: "log tail", Params: p("hello", "LogType", "Tail"), want: invoked{Status: 200, Payload: greeting, Log: "greeting"}}),
		right(invocation{Name: "function error", Params: p("hello", "Payload", `{}`), want: invoked{Status: 200, FunctionError: "Handled", Payload: `"errorType":"MissingName"`}}),
		right(invocation{Name: "client context", Params: p("echo", "ClientContext", base64.StdEncoding.EncodeToString([]byte(`{"custom":{}}`))), want: invoked{Status: 200, Payload: "you"}}),
		right(invocation{Name: "unknown function", Params: p("nobody"), want: invoked{Status: 404, Code: "ResourceNotFoundException", Class: "ResourceNotFoundException"}}),
		right(invocation{Name: "session token", Session: "x", Params: p("hello"), want: invoked{Status: 403, Code: "UnrecognizedClientException", Message: "AWS_SESSION_TOKEN"}}),
		{Name: "wrong secret", ID: id, Secret: readSecret, Params: p("hello"), want: invoked{Status: 403, Code: "InvalidSignatureException", Message: "The request signature we calculated does not match"}},
		{Name: "unknown key", ID: "CVKA2222222222222222", Secret: secret, Params: p("hello"), want: invoked{Status: 403, Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid"}},
		{Name: "scope", ID: readID, Secret: readSecret, Params: p("hello"), want: invoked{Status: 403, Code: "AccessDeniedException", Message: "lambda:InvokeFunction"}},
		{Name: "expired key", ID: endedID, Secret: endedSecret, Params: p("hello"), want: invoked{Status: 403, Code: "ExpiredTokenException", Message: "is expired"}},
	}
	await(t, 5*time.Second, "a key expires", func() error {
		if time.Since(made) < 1100*time.Millisecond {
			return errors.New("it has time left")
		}
		return nil
	})
	results := runBoto3(t, "http://"+c.nodes[0].api, cases)
	for _, i := range cases {
		t.Run(i.Name, func(t *testing.T) { results[i.Name].compare(t, i.want) })
	}
}

// runBoto3 runs the cases in one Python process.
func runBoto3(t *testing.T, endpoint string, cases []invocation) map[string]invoked {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	job, err := json.Marshal(map[string]any{"endpoint": endpoint, "cases": cases})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, awsPython, "-I", filepath.Join("testdata", "invoke.py"))
	cmd.Env = awsEnvironment(t)
	cmd.Stdin = bytes.NewReader(job)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("boto3: %v\n%s", err, errOut.String())
	}
	results := map[string]invoked{}
	if err := json.Unmarshal(out.Bytes(), &results); err != nil {
		t.Fatalf("boto3 printed %q: %v", out.String(), err)
	}
	return results
}

// awsEnvironment lets AWS's clients find no other configuration than the test's.
func awsEnvironment(t *testing.T, more ...string) []string {
	t.Helper()
	home := t.TempDir()
	return append([]string{
		"PATH=/usr/bin:/bin", "HOME=" + home, "AWS_EC2_METADATA_DISABLED=true", "AWS_DEFAULT_REGION=eu-central-1",
		"AWS_CONFIG_FILE=" + filepath.Join(home, "none"), "AWS_SHARED_CREDENTIALS_FILE=" + filepath.Join(home, "none"),
		"AWS_PAGER=", "LC_ALL=C.UTF-8",
	}, more...)
}

// TestAWSCommandInvokes runs AWS's command line against a node, with the lines that
// `covey token create` prints for a shell.
func TestAWSCommandInvokes(t *testing.T) {
	t.Parallel()
	needAWS(t, awsCLI, "--version")
	c := awsCluster(t)
	id, secret := c.accessKey("--description", "aws cli")
	aws := func(secret string, args ...string) (answer map[string]any, payload, failure string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		file := filepath.Join(t.TempDir(), "answer")
		args = append([]string{"lambda", "invoke", "--endpoint-url", "http://" + c.nodes[0].api, "--cli-binary-format", "raw-in-base64-out"}, args...)
		cmd := exec.CommandContext(ctx, awsCLI, append(args, file)...)
		cmd.Env = awsEnvironment(t, "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil {
			return nil, "", errOut.String()
		}
		if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
			t.Fatalf("aws printed %q: %v", out.String(), err)
		}
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(body), ""
	}
	answer, payload, failure := aws(secret, "--function-name", "hello", "--payload", `{"name":"you"}`, "--log-type", "Tail", "--qualifier", "live")
	if failure != "" || payload != `{"greeting":"Hello, you!"}` || answer["StatusCode"] != 200.0 || answer["ExecutedVersion"] != "1" {
		t.Fatalf("answer %v, payload %q, failure %s", answer, payload, failure)
	}
	log, err := base64.StdEncoding.DecodeString(answer["LogResult"].(string))
	if err != nil || !strings.Contains(string(log), "greeting") {
		t.Errorf("log is %q, %v", log, err)
	}
	if answer, payload, failure = aws(secret, "--function-name", "hello", "--payload", `{}`); failure != "" || answer["FunctionError"] != "Handled" || !strings.Contains(payload, "MissingName") {
		t.Errorf("function error: %v, %q, %s", answer, payload, failure)
	}
	if _, _, failure = aws(strings.Repeat("x", 40), "--function-name", "hello"); !strings.Contains(failure, "(InvalidSignatureException) when calling the Invoke operation: The request signature we calculated does not match") {
		t.Errorf("wrong secret: %s", failure)
	}
	if _, _, failure = aws(secret, "--function-name", "nobody"); !strings.Contains(failure, "(ResourceNotFoundException)") {
		t.Errorf("unknown function: %s", failure)
	}
	// Another of Lambda's operations is no riddle.
	cmd := exec.Command(awsCLI, "lambda", "list-functions", "--endpoint-url", "http://"+c.nodes[0].api)
	cmd.Env = awsEnvironment(t, "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "(UnknownOperationException) when calling the ListFunctions operation: Of AWS's operations") {
		t.Errorf("list-functions: %v\n%s", err, out)
	}
	c.covey("token", "revoke", id, "--data-dir", c.nodes[0].dir)
	if _, _, failure = aws(secret, "--function-name", "hello"); !strings.Contains(failure, "(UnrecognizedClientException)") {
		t.Errorf("revoked key: %s", failure)
	}
}
