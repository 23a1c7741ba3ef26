// Apply the deltas of standard input with the npm package fossil-delta; write the number of deltas that were right.
// Each line is a JSON array of the earlier text, the delta and the text that must result, all in base64.
"use strict";

async function main() {
    const { applyDelta } = await import(require.resolve("fossil-delta"));
    let right = 0;
    for (const line of require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean)) {
        const [base, delta, target] = JSON.parse(line).map((text) => Buffer.from(text, "base64"));
        if (!target.equals(Buffer.from(applyDelta(base, delta)))) throw new Error(`wrong result of ${delta}`);
        right += 1;
    }
    console.log(right);
}

main();
