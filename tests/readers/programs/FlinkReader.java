import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * A reader by Flink SQL, its cluster inside this program: one JSON line a change of the last statement's result.
 *
 * <p>FlinkReader SCRIPT; the script is SQL, each statement ends with a semicolon at the end of a line.
 */
public final class FlinkReader {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Configuration small = new Configuration();
        small.setString("parallelism.default", "1");
        small.setString("taskmanager.memory.managed.size", "32m");
        small.setString("taskmanager.memory.network.min", "16m");
        small.setString("taskmanager.memory.network.max", "16m");
        TableEnvironment tables = TableEnvironment.create(
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(small).build());
        TableResult result = null;
        for (String statement : Files.readString(Path.of(arguments[0])).split(";\\s*\n")) {
            if (!statement.isBlank()) {
                result = tables.executeSql(statement);
            }
        }
        try (CloseableIterator<Row> rows = result.collect()) {
            while (rows.hasNext()) {
                Row row = rows.next();
                var line = JSON.createObjectNode();
                line.put("kind", row.getKind().shortString());
                for (String name : row.getFieldNames(true)) {
                    line.set(name, JSON.valueToTree(row.getField(name))); // bytes become base64
                }
                System.out.println(JSON.writeValueAsString(line));
            }
        }
        Runtime.getRuntime().halt(0); // its cluster's threads outlive the job
    }
}
