//go:build !wasip1

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// initialising says whether this process is the one that shall fail: the one before the first call, or a server.
func initialising() bool { return os.Getenv(envInit) != "" || os.Getenv("PORT") != "" }

const envInit = "COVEY_EXEC_INIT"

// fail ends the process with an error.
func fail(err error) {
	var f *failure
	if !errors.As(err, &f) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	line, _ := json.Marshal(f)
	fmt.Fprintf(os.Stderr, "%s\n", line)
	os.Exit(1)
}

// waitCancelled returns when the host asks the process to end.
func waitCancelled() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	<-asked
}

func logInfo(message string) { logAs("", message) }

// logAs writes one structured line, which may hold several lines of text.
func logAs(requestID, message string) {
	fields := map[string]any{
		"@level": "info", "@message": message, "@timestamp": time.Now().Format(time.RFC3339Nano), "field": 1,
	}
	if requestID != "" {
		fields["request_id"] = requestID
	}
	line, _ := json.Marshal(fields)
	fmt.Fprintf(os.Stderr, "%s\n", line)
}

func invoke(name string, payload []byte) ([]byte, error) { return invokeFor("", name, payload) }

// invokeFor asks the platform to invoke another function, for the call that COVEY_API names or that one.
func invokeFor(requestID, name string, payload []byte) ([]byte, error) {
	request, err := http.NewRequest(http.MethodPost, os.Getenv("COVEY_API")+"/invoke/"+name, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	if requestID != "" {
		request.Header.Set("X-Covey-Request-Id", requestID)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusOK {
		return body, err
	}
	f := new(failure)
	if err := json.Unmarshal(body, f); err != nil {
		return nil, err
	}
	return nil, f
}
