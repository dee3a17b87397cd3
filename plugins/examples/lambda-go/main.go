// Command lambda-go is an AWS Lambda function as people have it: made with AWS's library, it takes a batch of orders
// from a queue, and says which messages of the batch are to be delivered again. Nothing in it knows of Covey.
//
// Built as a file named bootstrap it is a package for Lambda's runtime provided.al2023, and for Covey's runtime lambda.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type order struct {
	ID    string `json:"id"`
	Lines []struct {
		Item  string `json:"item"`
		Count int    `json:"count"`
		Cents int    `json:"cents"`
	} `json:"lines"`
}

func main() {
	slog.SetDefault(lambdacontext.NewLogger())
	lambda.Start(handle)
}

// handle books a batch. One bad message does not hold up the others.
func handle(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
	var out events.SQSEventResponse
	for _, m := range batch.Records {
		total, err := book(m.Body)
		if err != nil {
			slog.WarnContext(ctx, "order refused", "order_message", m.MessageId, "err", err)
			out.BatchItemFailures = append(out.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
			continue
		}
		slog.InfoContext(ctx, "order booked", "order_message", m.MessageId, "cents", total)
	}
	return out, nil
}

// book checks an order and returns its total.
func book(body string) (int, error) {
	var o order
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		return 0, fmt.Errorf("read order: %w", err)
	}
	if o.ID == "" || len(o.Lines) == 0 {
		return 0, errors.New("the order is empty")
	}
	total := 0
	for _, l := range o.Lines {
		if l.Count <= 0 || l.Cents < 0 {
			return 0, fmt.Errorf("order %s: %d of %s at %d", o.ID, l.Count, l.Item, l.Cents)
		}
		total += l.Count * l.Cents
	}
	return total, nil
}
