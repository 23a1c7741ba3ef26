// The official JavaScript SDK, driven by orders from a test, in Node (node.js) and in a page of a browser.
"use strict";

// The Protobuf form of the SDK takes and delivers bytes. The tests send JSON values, and receive them; they receive bytes
// that are not JSON as {"base64": ...}.
const encode = (value) => new TextEncoder().encode(JSON.stringify(value));

function plain(value) {
    if (value instanceof Uint8Array) {
        if (!value.length) return undefined;
        try {
            return JSON.parse(new TextDecoder().decode(value));
        } catch {
            return { base64: btoa(String.fromCharCode(...value)) };
        }
    }
    if (Array.isArray(value)) return value.map(plain);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
}

// Return a function that executes an order; `report` is called with each answer and event.
function drive(Centrifuge, url, options, report) {
    const wanted = [];
    const pack = options.protobuf ? encode : (value) => value;
    delete options.protobuf;

    // The test answers with a token, or with null: unauthorized.
    const requestToken = (what, channel) => new Promise((resolve, reject) => {
        wanted.push((token) => token === null ? reject(new Centrifuge.UnauthorizedError("no")) : resolve(token));
        report({ event: "token wanted", of: what, channel });
    });

    if (options.asksForTokens) options.getToken = () => requestToken("connection");
    delete options.asksForTokens;
    const client = new Centrifuge(url, { minReconnectDelay: 50, maxReconnectDelay: 500, ...options });
    const subscriptions = {};

    const listen = (emitter, names, more) => {
        for (const name of names) emitter.on(name, (context) => report({ event: name, ...more, ...plain(context) }));
    };
    listen(client, ["connecting", "connected", "disconnected", "message", "error"], { of: "client" });
    listen(client, ["publication", "join", "leave", "subscribed", "unsubscribed"], { of: "server" });

    const orders = {
        connect: () => { client.connect(); },
        disconnect: () => { client.disconnect(); },
        subscribe: ({ channel, options = {} }) => {
            if (!subscriptions[channel]) {
                if (options.asksForTokens) options.getToken = () => requestToken("subscription", channel);
                delete options.asksForTokens;
                const made = { minResubscribeDelay: 50, maxResubscribeDelay: 500, ...options };
                const subscription = subscriptions[channel] = client.newSubscription(channel, made);
                const names = ["publication", "join", "leave", "subscribing", "subscribed", "unsubscribed", "error"];
                listen(subscription, names, { of: "subscription" });
            }
            subscriptions[channel].subscribe();
        },
        unsubscribe: ({ channel }) => { subscriptions[channel].unsubscribe(); },
        publish: ({ channel, data }) => client.publish(channel, pack(data)),
        history: ({ channel, options }) => client.history(channel, options),
        presence: ({ channel }) => client.presence(channel),
        presenceStats: ({ channel }) => client.presenceStats(channel),
        rpc: ({ method, data = {} }) => client.rpc(method, pack(data)),
        send: ({ data }) => client.send(pack(data)),
        batch: ({ channel, messages }) => {
            client.startBatching();
            const sent = Promise.all(messages.map((data) => client.publish(channel, pack(data))));
            client.stopBatching();
            return sent.then((answers) => answers.length);
        },
        deltaStats: ({ channel }) => subscriptions[channel].deltaStats(),
        // Nothing is read meanwhile, as on a slow computer.
        block: ({ seconds }) => { for (const end = Date.now() + 1000 * seconds; Date.now() < end;); },
        token: ({ token }) => { wanted.shift()(token); },
    };

    return async ({ number, order, ...rest }) => {
        try {
            report({ answer: number, result: plain(await orders[order](rest)) ?? null });
        } catch (error) {
            report({ answer: number, error: { code: error.code, message: error.message } });
        }
    };
}

if (typeof module !== "undefined") module.exports = { drive };
