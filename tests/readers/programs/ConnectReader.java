import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.DriverManager;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.cli.ConnectStandalone;

/**
 * A reader by a sink of Kafka Connect: what stands in its file or its table once it has committed the record LAST.
 *
 * <p>ConnectReader BOOTSTRAP TOPIC LAST WORKER SINK; both are files of properties, as connect-standalone.sh takes them. A connector with connection.url has rows, printed as one JSON line each; one with file has that file.
 */
public final class ConnectReader {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Properties sink = new Properties();
        try (var reader = Files.newBufferedReader(Path.of(arguments[4]))) {
            sink.load(reader);
        }
        Thread connect = new Thread(() -> ConnectStandalone.main(new String[] {arguments[3], arguments[4]}), "connect");
        connect.setDaemon(true);
        connect.start();
        await(arguments[0], "connect-" + sink.getProperty("name"), new TopicPartition(arguments[1], 0),
            Long.parseLong(arguments[2]));
        if (sink.containsKey("connection.url")) {
            printRows(sink);
        } else {
            System.out.write(Files.readAllBytes(Path.of(sink.getProperty("file"))));
        }
        System.out.flush();
        Runtime.getRuntime().halt(0); // Connect would go on for ever
    }

    private static void await(String bootstrap, String group, TopicPartition partition, long last) throws Exception {
        Instant deadline = Instant.now().plus(Duration.ofSeconds(50));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            while (true) {
                OffsetAndMetadata committed =
                    admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition);
                if (committed != null && committed.offset() > last) {
                    return;
                }
                if (Instant.now().isAfter(deadline)) {
                    throw new IllegalStateException("the sink committed " + committed + ", not yet " + last);
                }
                Thread.sleep(100);
            }
        }
    }

    private static void printRows(Properties sink) throws Exception {
        String user = sink.getProperty("connection.username");
        try (var database =
                DriverManager.getConnection(sink.getProperty("connection.url"), user, sink.getProperty("connection.password"));
            var rows = database.createStatement().executeQuery("SELECT path, content, artifact_digest FROM files")) {
            while (rows.next()) {
                var line = JSON.createObjectNode();
                line.put("path", rows.getString(1));
                byte[] content = rows.getString(2).getBytes(StandardCharsets.UTF_8);
                line.put("content", Base64.getEncoder().encodeToString(content));
                line.put("digest", rows.getString(3));
                System.out.println(JSON.writeValueAsString(line));
            }
        }
    }
}
