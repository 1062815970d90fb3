// A reader by franz-go, and by hamba/avro for Avro: one JSON line a record, until it is ended.
//
//	reader BOOTSTRAP TOPIC ISOLATION FORMAT SCHEMA_REGISTRY    ISOLATION "" leaves what the client does by itself
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/hamba/avro/v2"
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
	schemas := registry{os.Args[5], map[uint32]avro.Schema{}}
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
		fetches.EachRecord(func(record *kgo.Record) { failOn(out.Encode(lineOf(record, format, schemas))) })
	}
}

func lineOf(record *kgo.Record, format string, schemas registry) line {
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
	var document struct {
		Content string `json:"content" avro:"content"`
	}
	switch format {
	case "json":
		failOn(json.Unmarshal(record.Value, &document))
		content = []byte(document.Content)
	case "avro": // the Confluent wire format: a zero byte, the schema's id, the body
		schema := schemas.get(binary.BigEndian.Uint32(record.Value[1:5]))
		failOn(avro.Unmarshal(schema, record.Value[5:], &document))
		content = []byte(document.Content)
	}
	made.Content = &content
	return made
}

type registry struct {
	url   string
	known map[uint32]avro.Schema
}

func (r registry) get(id uint32) avro.Schema {
	if _, ok := r.known[id]; !ok {
		response, err := http.Get(fmt.Sprintf("%s/schemas/ids/%d", r.url, id))
		failOn(err)
		defer response.Body.Close()
		var answer struct {
			Schema string `json:"schema"`
		}
		failOn(json.NewDecoder(response.Body).Decode(&answer))
		r.known[id], err = avro.Parse(answer.Schema)
		failOn(err)
	}
	return r.known[id]
}

func failOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
