import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;

/** How Java reads request targets; as readings.cjs. */
public class Readings {
    public static void main(String[] args) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(args[0])), 64);
        server.createContext("/", exchange -> {
            URI uri = exchange.getRequestURI();
            String path = String.valueOf(uri.getPath());
            String text = "{\"HttpServer, URI.getPath()\": " + quoted(path)
                + ", \"URI.normalize().getPath()\": " + quoted(uri.normalize().getPath())
                + ", \"URI.getRawPath()\": " + quoted(uri.getRawPath()) + "}";
            byte[] body = text.getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }

    private static String quoted(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            quoted.append(String.format("\\u%04x", (int) c));
        }
        return quoted.append('"').toString();
    }
}
