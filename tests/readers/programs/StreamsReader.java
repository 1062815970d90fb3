import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/**
 * A reader by Kafka Streams: the rows of a KTable or GlobalKTable, one JSON line each, once it holds the record LAST.
 *
 * <p>StreamsReader BOOTSTRAP TOPIC ISOLATION FORMAT SCHEMA_REGISTRY FOLDER TABLE LAST; ISOLATION "" leaves what Streams
 * does by itself. Avro is decoded by Avro's own library, the schema fetched over HTTP by the id in the value.
 */
public final class StreamsReader {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<Integer, Schema> SCHEMAS = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        String format = arguments[3];
        boolean global = arguments[6].equals("globalktable");
        long last = Long.parseLong(arguments[7]);
        CountDownLatch caughtUp = new CountDownLatch(1);
        StreamsBuilder builder = new StreamsBuilder();
        Consumed<String, byte[]> consumed = Consumed.with(Serdes.String(), Serdes.ByteArray());
        if (global) {
            builder.globalTable(topic, consumed, Materialized.as("files"));
        } else {
            builder.table(topic, consumed, Materialized.<String, byte[], org.apache.kafka.streams.state.KeyValueStore<
                    org.apache.kafka.common.utils.Bytes, byte[]>>as("files"))
                .toStream()
                .process(() -> new CountDown(last, caughtUp));
        }
        try (KafkaStreams streams = new KafkaStreams(builder.build(), properties(arguments))) {
            if (global) { // RUNNING means that a global table holds all there was at the start
                streams.setStateListener((now, before) -> {
                    if (now == KafkaStreams.State.RUNNING) {
                        caughtUp.countDown();
                    }
                });
            }
            streams.start();
            if (!caughtUp.await(60, TimeUnit.SECONDS)) {
                throw new IllegalStateException("offset " + last + " did not come within 60 s: " + streams.state());
            }
            print(streams, format, arguments[4]);
        }
    }

    private static Properties properties(String[] arguments) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, "reader-" + System.nanoTime());
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, arguments[5]);
        properties.put("statestore.cache.max.bytes", 0); // each update is passed on at once, so LAST is seen
        properties.put("auto.offset.reset", "earliest");
        if (!arguments[2].isEmpty()) {
            properties.put("consumer.isolation.level", arguments[2]); // the global and restore consumers take it, too
        }
        return properties;
    }

    private static void print(KafkaStreams streams, String format, String registry) throws Exception {
        var store = streams.store(
            StoreQueryParameters.fromNameAndType("files", QueryableStoreTypes.<String, byte[]>keyValueStore()));
        try (var rows = store.all()) {
            while (rows.hasNext()) {
                var row = rows.next();
                var line = JSON.createObjectNode();
                line.put("path", row.key.substring(row.key.indexOf('#') + 1));
                byte[] content = row.value;
                if (format.equals("json")) {
                    var document = JSON.readTree(row.value);
                    line.put("digest", document.get("artifact_digest").asText());
                    content = document.get("content").asText().getBytes(StandardCharsets.UTF_8);
                } else if (format.equals("avro")) {
                    GenericRecord document = decoded(row.value, registry);
                    line.put("digest", document.get("artifact_digest").toString());
                    content = document.get("content").toString().getBytes(StandardCharsets.UTF_8);
                }
                line.put("content", Base64.getEncoder().encodeToString(content));
                System.out.println(JSON.writeValueAsString(line));
            }
        }
    }

    private static GenericRecord decoded(byte[] value, String registry) throws Exception {
        ByteBuffer bytes = ByteBuffer.wrap(value);
        if (bytes.get() != 0) {
            throw new IllegalStateException("not the Confluent wire format: it starts with " + value[0]);
        }
        int id = bytes.getInt();
        if (!SCHEMAS.containsKey(id)) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(registry + "/schemas/ids/" + id)).build();
            String answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
            SCHEMAS.put(id, new Schema.Parser().parse(JSON.readTree(answer).get("schema").asText()));
        }
        var decoder = DecoderFactory.get().binaryDecoder(value, bytes.position(), bytes.remaining(), null);
        return new GenericDatumReader<GenericRecord>(SCHEMAS.get(id)).read(null, decoder);
    }

    private static final class CountDown extends ContextualProcessor<String, byte[], Void, Void> {
        private final long last;
        private final CountDownLatch latch;

        CountDown(long last, CountDownLatch latch) {
            this.last = last;
            this.latch = latch;
        }

        @Override
        public void process(Record<String, byte[]> record) {
            if (context().recordMetadata().orElseThrow().offset() >= last) {
                latch.countDown();
            }
        }
    }
}
