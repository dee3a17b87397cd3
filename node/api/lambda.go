package api

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/plugins"
)

// maxClientContext is Lambda's limit on X-Amz-Client-Context, in base64.
const maxClientContext = 3583

// AttributeClientContext is the attribute that carries a Lambda caller's client
// context, as the JSON that he encoded.
const AttributeClientContext = "lambda-client-context"

// invokeLambda serves Lambda's Invoke. A function's error has status 200 and a
// header there; the platform's errors have Lambda's names.
func (s *Server) invokeLambda(w http.ResponseWriter, r *http.Request) {
	in := invocation{s: s, w: w, r: r, begin: time.Now(), id: requestID(r)}
	defer in.done()
	resp, err := in.callLambda()
	if err != nil {
		in.failLambda(err)
		return
	}
	if resp == nil { // a dry run
		h := w.Header()
		h["X-Amzn-Requestid"] = []string{in.id}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	defer resp.Release()
	in.answerLambda(resp)
}

// callLambda does everything of an Invoke up to the answer, which is nil for a
// dry run.
func (in *invocation) callLambda() (*invoke.Response, error) {
	app, name, qualifier, err := lambdaName(in.r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	in.app, in.name = app, name
	who, err := in.admitLambda()
	if err != nil {
		return nil, err
	}
	if q := in.r.URL.Query().Get("Qualifier"); q != "" {
		if qualifier != "" && q != qualifier {
			return nil, badRequest("the name and the query have different qualifiers")
		}
		qualifier = q
	}
	switch kind := header(in.r, "X-Amz-Invocation-Type"); kind {
	case "", "RequestResponse":
	case "DryRun":
		_, err := in.s.cfg.Control.View().Resolve(app, name, qualifier, 0)
		return nil, err
	case "Event":
		return nil, refusal(http.StatusNotImplemented, wire.CodeNotImplemented, "asynchronous invocation is not implemented yet")
	default:
		return nil, badRequest("X-Amz-Invocation-Type " + strconv.Quote(kind) + " is unknown")
	}
	req, err := in.read(who)
	if err != nil {
		return nil, err
	}
	req.Qualifier = qualifier
	req.WantLogs = header(in.r, "X-Amz-Log-Type") == "Tail"
	if text := header(in.r, "X-Amz-Client-Context"); text != "" {
		clientContext, err := decodeClientContext(text)
		if err != nil {
			return nil, err
		}
		req.setAttribute(AttributeClientContext, clientContext)
	}
	return in.s.cfg.Invoker.Invoke(in.r.Context(), &req.Request)
}

// answerLambda sends a whole answer: Lambda's Invoke does not stream, and says
// in a header whether the function failed.
func (in *invocation) answerLambda(resp *invoke.Response) {
	h := in.w.Header()
	h["X-Amzn-Requestid"] = []string{in.id}
	h["X-Amz-Executed-Version"] = []string{strconv.FormatUint(uint64(resp.Version.Number), 10)}
	body := resp.Body
	switch {
	case resp.FunctionError != nil:
		h["X-Amz-Function-Error"] = []string{handled(resp.FunctionError.Unhandled)}
		body = lambdaErrorBody(resp.FunctionError)
		h["Content-Type"] = []string{"application/json"}
	case resp.Stream != nil:
		whole, err := in.collect(resp.Stream)
		if err != nil {
			in.failLambda(err)
			return
		}
		body = whole
	}
	if resp.ContentType == "" {
		h["Content-Type"] = []string{"application/json"}
	}
	if resp.LogTail != nil {
		h["X-Amz-Log-Result"] = []string{base64.StdEncoding.EncodeToString(resp.LogTail)}
	}
	in.describe(h, resp, len(body))
	in.w.WriteHeader(http.StatusOK)
	_, _ = in.w.Write(body) // a client that left shows in the context
	in.count(http.StatusOK)
}

// collect reads a streamed answer whole, up to the body limit.
func (in *invocation) collect(stream io.Reader) ([]byte, error) {
	limit := in.s.cfg.MaxBody
	body, err := io.ReadAll(io.LimitReader(stream, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	return body, nil
}

// lambdaErrorBody is the body of an answer with X-Amz-Function-Error.
func lambdaErrorBody(e *plugins.FunctionError) []byte {
	body, err := json.Marshal(functionError(e))
	if err != nil {
		return []byte(`{"errorType":"Unhandled","errorMessage":""}`)
	}
	return body
}

// failLambda answers with an error in Lambda's form.
func (in *invocation) failLambda(err error) {
	o := outcomeOf(err)
	if o.code == wire.CodeInternal {
		in.s.log.Error().Err(err).Str("invocation", in.id).Msg("invocation failed inside")
	}
	kind, reason := lambdaError(o)
	if o.code == wire.CodeUnauthenticated {
		o, kind = lambdaStranger(err, o)
	}
	if o.code == wire.CodeDenied {
		o.detail = "not authorized to perform: lambda:InvokeFunction on resource: " + string(in.app) + "/" + string(in.name)
	}
	if in.s.draining.Load() {
		in.w.Header().Set("Connection", "close")
	}
	in.discard()
	o.writeLambda(in.w, in.id, kind, reason)
	in.countFailure(o.status)
}

// discardTime bounds how long a refused body is taken in.
const discardTime = 5 * time.Second

// discard takes in what is left of a refused body, up to twice the limit. AWS's
// clients send all of a body before they look for an answer, and would report a
// broken connection instead of the refusal. Who asked first (Expect) is not told to
// go on.
func (in *invocation) discard() {
	if in.r.ContentLength == 0 || header(in.r, "Expect") != "" {
		return
	}
	readUntil(in.w, time.Now().Add(discardTime))
	_, _ = io.CopyN(io.Discard, in.r.Body, 2*in.s.cfg.MaxBody) // a client that left shows when it is answered
	readUntil(in.w, time.Time{})
}

// writeLambda answers with the outcome in Lambda's form.
func (o outcome) writeLambda(w http.ResponseWriter, id, kind, reason string) {
	document := map[string]string{"Type": "User", "Message": o.detail, "message": o.detail}
	if o.status >= http.StatusInternalServerError {
		document["Type"] = "Service"
	}
	if reason != "" {
		document["Reason"] = reason
	}
	body, err := json.Marshal(document)
	if err != nil {
		body = []byte(`{}`)
	}
	h := w.Header()
	o.writeHeaders(h, id)
	h.Set("X-Amzn-Errortype", kind)
	h.Set("X-Amzn-Requestid", id)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(o.status)
	_, _ = w.Write(body) // a client that left shows in the context
}

// lambdaError names an outcome as Lambda does, with the reason of a refusal.
func lambdaError(o outcome) (kind, reason string) {
	switch o.code {
	case wire.CodeNotFound:
		return "ResourceNotFoundException", ""
	case wire.CodeDenied:
		return "AccessDeniedException", ""
	case wire.CodeTooLarge:
		return "RequestTooLargeException", ""
	case wire.CodeBusy, wire.CodeOverloaded:
		return "TooManyRequestsException", "ConcurrentInvocationLimitExceeded"
	case wire.CodeTooDeep:
		return "RecursiveInvocationException", ""
	case wire.CodeConflict, wire.CodeNotIdempotent:
		return "ResourceConflictException", ""
	case wire.CodeBadRequest:
		return "InvalidParameterValueException", ""
	case wire.CodeRequestTimeout:
		return "InvalidRequestContentException", ""
	default:
		return "ServiceException", ""
	}
}

// decodeClientContext checks a client context and returns its JSON.
func decodeClientContext(text string) (string, error) {
	if len(text) > maxClientContext {
		return "", badRequest("X-Amz-Client-Context is longer than 3583 bytes")
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !json.Valid(raw) {
		return "", badRequest("X-Amz-Client-Context is not JSON in base64")
	}
	return string(raw), nil
}

// lambdaName reads the forms of a name that Lambda takes: NAME, NAME:QUALIFIER,
// ACCOUNT:NAME, ACCOUNT:function:NAME[:QUALIFIER] and a whole ARN. An account of
// twelve digits or none means the app "default"; any other word is an app, as is
// the part before a slash (%2F) in APP/NAME.
func lambdaName(text string) (state.AppName, state.FunctionName, string, error) {
	bad := func() (state.AppName, state.FunctionName, string, error) {
		return "", "", "", badRequest("the function's name has none of the forms NAME[:QUALIFIER], APP/NAME[:QUALIFIER] or an ARN")
	}
	if app, rest, ok := strings.Cut(text, "/"); ok {
		name, qualifier, _ := strings.Cut(rest, ":")
		if app == "" || name == "" || strings.ContainsAny(rest, "/") {
			return bad()
		}
		return state.AppName(app), state.FunctionName(name), qualifier, nil
	}
	parts := strings.Split(text, ":")
	account := ""
	switch {
	case parts[0] == "arn":
		if len(parts) < 7 || parts[2] != "lambda" || parts[5] != "function" {
			return bad()
		}
		account, parts = parts[4], parts[6:]
	case len(parts) >= 3 && parts[1] == "function":
		account, parts = parts[0], parts[2:]
	case len(parts) >= 2 && isAccount(parts[0]):
		account, parts = parts[0], parts[1:]
	}
	if len(parts) > 2 || parts[0] == "" {
		return bad()
	}
	app := state.DefaultApp
	if account != "" && !isAccount(account) {
		app = state.AppName(account)
	}
	qualifier := ""
	if len(parts) == 2 {
		qualifier = parts[1]
	}
	return app, state.FunctionName(parts[0]), qualifier, nil
}

// isAccount tells an AWS account number from a word.
func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
