// A reader by franz-go: one JSON line a record, until it is ended.
//
//	reader BOOTSTRAP TOPIC ISOLATION FORMAT      ISOLATION "" leaves what the client does by itself
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

type line struct {
	Offset  int64   `json:"offset"`
	Path    string  `json:"path"`
	Content *[]byte `json:"content"` // base64 in JSON, null for a tombstone
	Digest  string  `json:"digest"`
}

func main() {
	bootstrap, topic, isolation, format := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	options := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	if isolation == "read_committed" {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	client, err := kgo.NewClient(options...)
	failOn(err)
	defer client.Close()
	out := json.NewEncoder(os.Stdout)
	for {
		fetches := client.PollFetches(context.Background())
		failOn(fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) { failOn(out.Encode(lineOf(record, format))) })
	}
}

func lineOf(record *kgo.Record, format string) line {
	_, path, _ := strings.Cut(string(record.Key), "#")
	made := line{Offset: record.Offset, Path: path}
	for _, header := range record.Headers {
		if header.Key == "oci.artifact_digest" {
			made.Digest = string(header.Value)
		}
	}
	if record.Value == nil { // a tombstone; an empty file in format raw is an empty slice
		return made
	}
	content := record.Value
	if format == "json" {
		var document struct {
			Content string `json:"content"`
		}
		failOn(json.Unmarshal(record.Value, &document))
		content = []byte(document.Content)
	}
	made.Content = &content
	return made
}

func failOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
