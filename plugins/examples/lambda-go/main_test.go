package main

import (
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

func TestBadOrdersOfABatchComeAgain(t *testing.T) {
	t.Parallel()
	batch := events.SQSEvent{Records: []events.SQSMessage{
		{MessageId: "good", Body: `{"id":"1","lines":[{"item":"nest","count":2,"cents":150}]}`},
		{MessageId: "empty", Body: `{"id":"2"}`},
		{MessageId: "negative", Body: `{"id":"3","lines":[{"item":"egg","count":-1,"cents":20}]}`},
		{MessageId: "garbage", Body: `order`},
	}}
	out, err := handle(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, f := range out.BatchItemFailures {
		failed = append(failed, f.ItemIdentifier)
	}
	if len(failed) != 3 || failed[0] != "empty" || failed[1] != "negative" || failed[2] != "garbage" {
		t.Errorf("failed: %v", failed)
	}
	if total, err := book(batch.Records[0].Body); total != 300 || err != nil {
		t.Errorf("total %d, %v", total, err)
	}
}
