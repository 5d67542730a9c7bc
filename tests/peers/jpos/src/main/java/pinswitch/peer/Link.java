package pinswitch.peer;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.StringJoiner;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.jpos.iso.ISOMsg;
import org.jpos.iso.ISOResponseListener;
import org.jpos.iso.ISOUtil;
import org.jpos.iso.MUX;
import org.jpos.q2.iso.ChannelAdaptor;
import org.jpos.q2.iso.QMUX;
import org.jpos.util.NameRegistrar;

/** One connection to the switch: a channel and a multiplexer, as Q2 deploys them. */
final class Link {
    /** A length of two bytes that does not count itself, and no TPDU, since no header is set. */
    private static final String CHANNEL =
            """
            <channel-adaptor name="%1$s-channel" class="org.jpos.q2.iso.ChannelAdaptor">
              <channel class="org.jpos.iso.channel.NACChannel" packager="%3$s">
                <property name="host" value="127.0.0.1"/>
                <property name="port" value="%2$d"/>
                <property name="packager-config" value="jar:packager/iso87binary.xml"/>
              </channel>
              <in>%1$s-send</in>
              <out>%1$s-receive</out>
              <reconnect-delay>500</reconnect-delay>
              <!-- An empty frame where nothing was sent for as long. -->
              <keep-alive>yes</keep-alive>
            </channel-adaptor>
            """;

    /** Without a key of its own: answers are matched by DE41 and DE11. */
    private static final String MULTIPLEXER =
            """
            <mux name="%1$s" class="org.jpos.q2.iso.QMUX">
              <in>%1$s-receive</in>
              <out>%1$s-send</out>
              <ready>%1$s-channel.ready</ready>
            </mux>
            """;

    private static final int PIN_BLOCK = 52;
    private static final int CHIP_DATA = 55;

    private final String name;
    private final int port;
    private final String packager;
    private final PinBlock pinBlock;
    private final BlockingQueue<String> outcomes = new LinkedBlockingQueue<>();

    Link(String name, int port, String packager, PinBlock pinBlock) {
        this.name = name;
        this.port = port;
        this.packager = packager;
        this.pinBlock = pinBlock;
    }

    void writeDescriptors(Path deploy) throws IOException {
        String channel = CHANNEL.formatted(name, port, packager);
        Files.writeString(deploy.resolve("10_channel_" + name + ".xml"), channel);
        Files.writeString(deploy.resolve("20_mux_" + name + ".xml"), MULTIPLEXER.formatted(name));
    }

    void waitUntilDeployed(long milliseconds) {
        for (String deployed : new String[] {name + "-channel", "mux." + name}) {
            if (NameRegistrar.get(deployed, milliseconds) == null) {
                throw new IllegalStateException("Q2 has not deployed " + deployed);
            }
        }
    }

    String ask(long milliseconds, String[] words) throws Exception {
        return written(multiplexer().request(message(words), milliseconds));
    }

    String send(long milliseconds, String[] words) throws Exception {
        ISOMsg request = message(words);
        ISOResponseListener collector =
                new ISOResponseListener() {
                    @Override
                    public void responseReceived(ISOMsg answer, Object stan) {
                        outcomes.add(stan + "\t" + written(answer));
                    }

                    @Override
                    public void expired(Object stan) {
                        outcomes.add(stan + "\tnone");
                    }
                };
        multiplexer().request(request, milliseconds, collector, request.getString(11));
        return "";
    }

    String collect(int count, long milliseconds) throws InterruptedException {
        StringBuilder lines = new StringBuilder();
        for (int taken = 0; taken < count; taken++) {
            String outcome = outcomes.poll(milliseconds, TimeUnit.MILLISECONDS);
            if (outcome == null) {
                break;
            }
            lines.append(outcome).append('\n');
        }
        return lines.toString();
    }

    String counters() throws Exception {
        ChannelAdaptor channel = NameRegistrar.get(name + "-channel");
        QMUX mux = (QMUX) multiplexer();
        return String.join(
                "\t",
                "connected=" + (mux.isConnected() ? 1 : 0),
                "connects=" + channel.getConnectsCounter(),
                "sent=" + channel.getTXCounter(),
                "received=" + channel.getRXCounter(),
                "pending=" + mux.getRXPending(),
                "unhandled=" + mux.getRXUnhandled());
    }

    private MUX multiplexer() throws NameRegistrar.NotFoundException {
        return QMUX.getMUX(name);
    }

    private boolean isText() {
        return packager.endsWith("ISO87APackager");
    }

    /** The elements begin at the fourth word. */
    private ISOMsg message(String[] words) throws Exception {
        ISOMsg message = new ISOMsg();
        String pin = null;
        for (int at = 3; at < words.length; at++) {
            String[] pair = words[at].split("=", 2);
            if (pair[0].equals("pin")) {
                pin = pair[1];
            } else if (pair[0].equals("55") && !isText()) {
                message.set(CHIP_DATA, ISOUtil.hex2byte(pair[1]));
            } else {
                message.set(Integer.parseInt(pair[0]), pair[1]);
            }
        }
        if (pin != null) {
            message.set(PIN_BLOCK, pinBlock.of(pin, message.getString(2)));
        }
        return message;
    }

    private String written(ISOMsg answer) {
        if (answer == null) {
            return "none";
        }
        StringJoiner words = new StringJoiner("\t");
        for (int element = 0; element <= answer.getMaxField(); element++) {
            // The bitmap is no element.
            if (element == 1 || !answer.hasField(element)) {
                continue;
            }
            boolean isBytes = answer.getValue(element) instanceof byte[];
            if (isBytes || element == CHIP_DATA && !isText()) {
                words.add(element + "=" + ISOUtil.hexString(answer.getBytes(element)));
            } else {
                words.add(element + "=" + answer.getString(element));
            }
        }
        return words.toString();
    }
}
