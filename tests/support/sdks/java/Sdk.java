// The official Java SDK in a process: the same orders and the same events as sdk.js. The SDK speaks Protobuf only.

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import io.github.centrifugal.centrifuge.*;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;

public class Sdk {
    /** Tokens that the SDK waits for; the test sends them with the order `token`. */
    private static final Queue<TokenCallback> wanted = new ConcurrentLinkedQueue<>();

    /** Does not take other texts for JSON strings, as JsonParser does. */
    private static final Gson json = new Gson();

    private static Client client;

    public static void main(String[] arguments) throws Exception {
        JsonObject settings = JsonParser.parseString(arguments[1]).getAsJsonObject();
        Options options = new Options();
        options.setMinReconnectDelay(50);
        options.setMaxReconnectDelay(500);
        if (settings.has("token")) options.setToken(settings.get("token").getAsString());
        if (settings.has("asksForTokens")) {
            options.setTokenGetter(new ConnectionTokenGetter() {
                @Override public void getConnectionToken(ConnectionTokenEvent event, TokenCallback callback) {
                    requestToken("connection", "", callback);
                }
            });
        }
        client = new Client(arguments[0], options, new ClientReporter());
        report(event("ready", "client", null, null));
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            JsonObject order = JsonParser.parseString(line).getAsJsonObject();
            execute(order, order.get("number").getAsLong());
        }
        System.exit(0);
    }

    private static void execute(JsonObject order, long number) throws Exception {
        String channel = order.has("channel") ? order.get("channel").getAsString() : null;
        JsonObject options = order.has("options") ? order.getAsJsonObject("options") : new JsonObject();
        switch (order.get("order").getAsString()) {
            case "connect": client.connect(); answer(number, JsonNull.INSTANCE); break;
            case "disconnect": client.disconnect(); answer(number, JsonNull.INSTANCE); break;
            case "subscribe": subscribe(channel, options); answer(number, JsonNull.INSTANCE); break;
            case "unsubscribe": client.getSubscription(channel).unsubscribe(); answer(number, JsonNull.INSTANCE); break;
            case "publish": client.publish(channel, encode(order.get("data")), answering(number)); break;
            case "history": client.history(channel, historyOptions(options), answering(number)); break;
            case "presence": client.presence(channel, answering(number)); break;
            case "presenceStats": client.presenceStats(channel, answering(number)); break;
            case "rpc": rpc(number, order); break;
            case "send": client.send(encode(order.get("data")), error -> answer(number, plain(error))); break;
            case "batch": batch(number, channel, order.getAsJsonArray("messages")); break;
            case "token":
                JsonElement token = order.get("token");
                if (token.isJsonNull()) wanted.remove().Done(new UnauthorizedException(), null);
                else wanted.remove().Done(null, token.getAsString());
                answer(number, JsonNull.INSTANCE);
                break;
            default: throw new IllegalArgumentException(order.toString());
        }
    }

    private static void subscribe(String channel, JsonObject settings) throws Exception {
        Subscription subscription = client.getSubscription(channel);
        if (subscription == null) {
            SubscriptionOptions options = new SubscriptionOptions();
            options.setMinResubscribeDelay(50);
            options.setMaxResubscribeDelay(500);
            if (settings.has("token")) options.setToken(settings.get("token").getAsString());
            if (settings.has("joinLeave")) options.setJoinLeave(settings.get("joinLeave").getAsBoolean());
            if (settings.has("asksForTokens")) {
                options.setTokenGetter(new SubscriptionTokenGetter() {
                    @Override public void getSubscriptionToken(SubscriptionTokenEvent event, TokenCallback callback) {
                        requestToken("subscription", channel, callback);
                    }
                });
            }
            subscription = client.newSubscription(channel, options, new SubscriptionReporter());
        }
        subscription.subscribe();
    }

    private static HistoryOptions historyOptions(JsonObject options) {
        HistoryOptions.Builder builder = new HistoryOptions.Builder();
        if (options.has("limit")) builder.withLimit(options.get("limit").getAsInt());
        if (options.has("reverse")) builder.withReverse(options.get("reverse").getAsBoolean());
        if (options.has("since")) {
            JsonObject since = options.getAsJsonObject("since");
            builder.withSince(new StreamPosition(since.get("offset").getAsLong(), since.get("epoch").getAsString()));
        }
        return builder.build();
    }

    private static void rpc(long number, JsonObject order) {
        JsonElement data = order.has("data") ? order.get("data") : new JsonObject();
        client.rpc(order.get("method").getAsString(), encode(data), answering(number));
    }

    private static void batch(long number, String channel, JsonArray messages) {
        CountDownLatch sent = new CountDownLatch(messages.size());
        for (JsonElement data : messages) {
            client.publish(channel, encode(data), (error, result) -> {
                sent.countDown();
                if (sent.getCount() == 0) answer(number, new JsonPrimitive(messages.size()));
            });
        }
    }

    private static void requestToken(String of, String channel, TokenCallback callback) {
        wanted.add(callback);
        report(event("token wanted", of, channel, null));
    }

    private static <T> ResultCallback<T> answering(long number) {
        return (error, result) -> {
            if (error == null) {
                answer(number, plain(result));
            } else {
                JsonObject line = new JsonObject();
                line.addProperty("answer", number);
                line.add("error", plain(error));
                report(line);
            }
        };
    }

    private static void answer(long number, JsonElement result) {
        JsonObject line = new JsonObject();
        line.addProperty("answer", number);
        line.add("result", result);
        report(line);
    }

    /** Return the line for an event: the fields of the SDK's object, under the names of the JavaScript SDK. */
    private static JsonObject event(String name, String of, String channel, Object context) {
        JsonObject line = context == null ? new JsonObject() : plain(context).getAsJsonObject();
        line.addProperty("event", name);
        line.addProperty("of", of);
        if (channel != null) line.addProperty("channel", channel);
        return line;
    }

    private static synchronized void report(JsonObject line) {
        System.out.println(ascii(line.toString()));
        System.out.flush();
    }

    /** Escape everything beyond ASCII: half of a surrogate pair could not be written otherwise. */
    private static String ascii(String json) {
        StringBuilder escaped = new StringBuilder();
        for (char one : json.toCharArray()) {
            if (one < 0x80) escaped.append(one);
            else escaped.append(String.format("\\u%04x", (int) one));
        }
        return escaped.toString();
    }

    private static byte[] encode(JsonElement data) {
        return data == null ? new byte[0] : ascii(data.toString()).getBytes(StandardCharsets.US_ASCII);
    }

    private static JsonElement decode(byte[] data) {
        try {
            return json.getAdapter(JsonElement.class).fromJson(new String(data, StandardCharsets.UTF_8));
        } catch (IOException | JsonParseException notJson) {
            JsonObject bytes = new JsonObject();
            bytes.addProperty("base64", Base64.getEncoder().encodeToString(data));
            return bytes;
        }
    }

    /** Convert a value of the SDK to JSON. Some of its fields have no public method, so they are read directly. */
    private static JsonElement plain(Object value) {
        if (value == null) return JsonNull.INSTANCE;
        if (value instanceof byte[]) return decode((byte[]) value);
        if (value instanceof String) return new JsonPrimitive((String) value);
        if (value instanceof Number) return new JsonPrimitive((Number) value);
        if (value instanceof Boolean) return new JsonPrimitive((Boolean) value);
        if (value instanceof Iterable) {
            JsonArray list = new JsonArray();
            for (Object one : (Iterable<?>) value) list.add(plain(one));
            return list;
        }
        JsonObject object = new JsonObject();
        if (value instanceof Map) {
            for (Map.Entry<?, ?> one : ((Map<?, ?>) value).entrySet()) {
                object.add(one.getKey().toString(), plain(one.getValue()));
            }
            return object;
        }
        if (value instanceof Throwable) {
            object.addProperty("message", ((Throwable) value).getMessage());
            if (value instanceof ReplyError) object.addProperty("code", ((ReplyError) value).getCode());
            return object;
        }
        for (Field field : value.getClass().getDeclaredFields()) {
            if (Modifier.isStatic(field.getModifiers())) continue;
            field.setAccessible(true);
            try {
                Object found = field.get(value);
                boolean empty = found == null || found instanceof byte[] && ((byte[]) found).length == 0;
                if (!empty) object.add(field.getName(), plain(found));
            } catch (IllegalAccessException impossible) {
                throw new AssertionError(impossible);
            }
        }
        return object;
    }

    private static class ClientReporter extends EventListener {
        private void say(String name, String of, Object context) {
            report(event(name, of, null, context));
        }

        @Override public void onConnecting(Client c, ConnectingEvent e) { say("connecting", "client", e); }
        @Override public void onConnected(Client c, ConnectedEvent e) { say("connected", "client", e); }
        @Override public void onDisconnected(Client c, DisconnectedEvent e) { say("disconnected", "client", e); }
        @Override public void onError(Client c, ErrorEvent e) { say("error", "client", e); }
        @Override public void onMessage(Client c, MessageEvent e) { say("message", "client", e); }
        @Override public void onSubscribed(Client c, ServerSubscribedEvent e) { say("subscribed", "server", e); }
        @Override public void onUnsubscribed(Client c, ServerUnsubscribedEvent e) { say("unsubscribed", "server", e); }
        @Override public void onPublication(Client c, ServerPublicationEvent e) { say("publication", "server", e); }
        @Override public void onJoin(Client c, ServerJoinEvent e) { say("join", "server", e); }
        @Override public void onLeave(Client c, ServerLeaveEvent e) { say("leave", "server", e); }
    }

    private static class SubscriptionReporter extends SubscriptionEventListener {
        private void say(String name, Subscription subscription, Object context) {
            report(event(name, "subscription", subscription.getChannel(), context));
        }

        @Override public void onSubscribing(Subscription s, SubscribingEvent e) { say("subscribing", s, e); }
        @Override public void onSubscribed(Subscription s, SubscribedEvent e) { say("subscribed", s, e); }
        @Override public void onUnsubscribed(Subscription s, UnsubscribedEvent e) { say("unsubscribed", s, e); }
        @Override public void onPublication(Subscription s, PublicationEvent e) { say("publication", s, e); }
        @Override public void onJoin(Subscription s, JoinEvent e) { say("join", s, e); }
        @Override public void onLeave(Subscription s, LeaveEvent e) { say("leave", s, e); }
        @Override public void onError(Subscription s, SubscriptionErrorEvent e) { say("error", s, e.getError()); }
    }
}
