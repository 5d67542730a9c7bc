package pinswitch.peer;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.jpos.q2.Q2;

/**
 * jPOS as the acquirer's side of links to the switch, for tests that run it once and ask it for one
 * exchange after another.
 *
 * <p>Arguments: the directory for Q2's deployment descriptors, the zone PIN key in hexadecimal, and
 * for each link NAME=PORT=PACKAGER.
 *
 * <p>A command is a line on standard input, its words separated by tabs; what it answers are lines
 * on standard output, and an empty line behind them. A message is its elements as words,
 * NUMBER=VALUE with 0 for the MTI and binary values in hexadecimal; "pin=DIGITS" stands for DE52.
 *
 * <ul>
 *   <li>ask LINK MILLISECONDS MESSAGE: the answer that the multiplexer matches, or "none"
 *   <li>send LINK MILLISECONDS MESSAGE: nothing; the request is in flight then
 *   <li>collect LINK COUNT MILLISECONDS: a line for each outcome of what was sent, in the order in
 *       which they come: DE11 of the request, then the answer or "none"
 *   <li>counters LINK: what the channel and the multiplexer count
 * </ul>
 */
public final class Peer {
    private static final long START_MILLISECONDS = 20_000;

    private final Map<String, Link> links = new HashMap<>();

    private Peer(String[] arguments) throws Exception {
        Path deploy = Path.of(arguments[0]);
        PinBlock pinBlock = new PinBlock(arguments[1]);
        for (int at = 2; at < arguments.length; at++) {
            String[] words = arguments[at].split("=");
            Link link = new Link(words[0], Integer.parseInt(words[1]), words[2], pinBlock);
            link.writeDescriptors(deploy);
            links.put(words[0], link);
        }
        Q2 q2 = new Q2(deploy.toString());
        q2.start();
        for (Link link : links.values()) {
            link.waitUntilDeployed(START_MILLISECONDS);
        }
    }

    public static void main(String[] arguments) {
        PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        // Q2 logs to standard output.
        System.setOut(System.err);
        int code = 0;
        try {
            new Peer(arguments).serve(answers);
        } catch (Exception problem) {
            problem.printStackTrace();
            code = 1;
        }
        // Q2 has threads that would keep the process alive.
        System.exit(code);
    }

    private void serve(PrintStream answers) throws IOException {
        var commands =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String said;
            try {
                said = obey(line.split("\t"));
            } catch (Exception problem) {
                problem.printStackTrace();
                said = "error: " + problem + "\n";
            }
            answers.print(said + "\n");
            answers.flush();
        }
    }

    private String obey(String[] words) throws Exception {
        Link link = links.get(words[1]);
        return switch (words[0]) {
            case "ask" -> link.ask(Long.parseLong(words[2]), words) + "\n";
            case "send" -> link.send(Long.parseLong(words[2]), words);
            case "collect" -> link.collect(Integer.parseInt(words[2]), Long.parseLong(words[3]));
            case "counters" -> link.counters() + "\n";
            default -> throw new IllegalArgumentException("no such command: " + words[0]);
        };
    }
}
