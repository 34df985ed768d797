import com.amazonaws.services.dynamodbv2.local.server.LocalDynamoDBRequestHandler;
import com.amazonaws.services.dynamodbv2.local.server.LocalDynamoDBServerHandler;
import java.net.InetSocketAddress;
import org.eclipse.jetty.server.Server;

/** DynamoDB Local, in memory, on a free port of the loopback interface; its own launcher listens on all of them. */
class LoopbackDynamoDB {
    /** Prints the port, and ends with its standard input, so never after the process that started it. */
    public static void main(String[] arguments) throws Exception {
        // memory, no file, one database for all access keys, tables usable at once
        var requests = new LocalDynamoDBRequestHandler(0, true, null, true, false);
        var server = new Server(new InetSocketAddress("127.0.0.1", 0));
        server.setHandler(new LocalDynamoDBServerHandler(requests, null)); // null: no page may ask it
        server.start();
        System.out.println(server.getConnectors()[0].getLocalPort());
        System.in.read();
        System.exit(0);
    }
}
