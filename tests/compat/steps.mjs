// The steps every client must pass, for @azure/service-bus: node steps.mjs CONNECTION_STRING
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

// Packages live in the throw-away folder this is started in, not beside this file.
const require = createRequire(path.join(process.cwd(), "package.json"));
const { ServiceBusClient } = require("@azure/service-bus");

const client = new ServiceBusClient(process.argv[2], { retryOptions: { retryDelayInMs: 100, timeoutInMs: 20000 } });
const sender = client.createSender("main");
const receiver = client.createReceiver("main");
const dead = client.createReceiver("main", { subQueueType: "deadLetter" });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function one(from) {
  const [message] = await from.receiveMessages(1, { maxWaitTimeInMs: 5000 });
  assert.ok(message, "no message");
  return message;
}

const steps = {
  async sendAndComplete() {
    await sender.sendMessages({ body: "hello", applicationProperties: { n: 1 }, messageId: "m" });
    const message = await one(receiver);
    await receiver.completeMessage(message);
    assert.equal(message.body, "hello");
    assert.equal(message.applicationProperties.n, 1);
    assert.equal(message.deliveryCount, 0);
  },
  async messageWithoutId() {
    await sender.sendMessages({ body: { a: 1 } });
    const message = await one(receiver);
    assert.ok(message.messageId);
    await receiver.renewMessageLock(message);
    await receiver.completeMessage(message);
    assert.deepEqual(message.body, { a: 1 });
  },
  async batchOfSeveralFrames() {
    const batch = await sender.createMessageBatch();
    for (let i = 0; i < 60; i++) assert.ok(batch.tryAddMessage({ body: "x".repeat(3000) }));
    await sender.sendMessages(batch);
    let done = 0;
    while (done < 60) {
      const messages = await receiver.receiveMessages(60 - done, { maxWaitTimeInMs: 5000 });
      assert.ok(messages.length);
      await Promise.all(messages.map((message) => receiver.completeMessage(message)));
      done += messages.length;
    }
  },
  async largeMessage() {
    await sender.sendMessages({ body: "x".repeat(240000) });
    const message = await one(receiver);
    await receiver.completeMessage(message);
    assert.equal(message.body.length, 240000);
  },
  async oversizeMessage() {
    await assert.rejects(sender.sendMessages({ body: "x".repeat(300000) }), { code: "MessageSizeExceeded" });
  },
  async peek() {
    await sender.sendMessages({ body: "seen" });
    const message = await one(receiver);
    const peeked = await receiver.peekMessages(5, { fromSequenceNumber: message.sequenceNumber });
    await receiver.completeMessage(message);
    assert.deepEqual(peeked.map((item) => item.body), ["seen"]);
  },
  async abandonToTheDeadLetters() {
    await sender.sendMessages({ body: "poison" });
    for (let i = 0; i < 3; i++) await receiver.abandonMessage(await one(receiver), { tried: i });
    const message = await one(dead);
    await dead.completeMessage(message);
    assert.equal(message.deadLetterReason, "MaxDeliveryCountExceeded");
    assert.equal(message.applicationProperties.tried, 2);
  },
  async deadLetterWithAReason() {
    await sender.sendMessages({ body: "bad" });
    const bad = await one(receiver);
    await receiver.deadLetterMessage(bad, { deadLetterReason: "r", deadLetterErrorDescription: "d", more: "told" });
    const message = await one(dead);
    await dead.completeMessage(message);
    assert.equal(message.deadLetterReason, "r");
    assert.equal(message.deadLetterErrorDescription, "d");
    assert.equal(message.applicationProperties.more, "told");
  },
  async deferAndReceiveByNumber() {
    await sender.sendMessages({ body: "later" });
    const message = await one(receiver);
    await receiver.deferMessage(message);
    const [deferred] = await receiver.receiveDeferredMessages([message.sequenceNumber]);
    await receiver.completeMessage(deferred);
    assert.equal(deferred.body, "later");
  },
  async scheduleAndCancel() {
    const due = new Date(Date.now() + 1000);
    const numbers = await sender.scheduleMessages([{ body: "kept" }, { body: "gone" }], due);
    await sender.cancelScheduledMessages(numbers[1]);
    const message = await one(receiver);
    await receiver.completeMessage(message);
    assert.equal(message.body, "kept");
  },
  async loseALock() {
    await client.createSender("short").sendMessages({ body: "slow" });
    const short = client.createReceiver("short", { maxAutoLockRenewalDurationInMs: 0 });
    const lost = await one(short);
    await sleep(2500);
    await assert.rejects(short.completeMessage(lost));
    const again = await one(short);
    await short.completeMessage(again);
    assert.equal(again.deliveryCount, 1);
  },
  async subscribe() {
    const got = [];
    const subscription = receiver.subscribe({
      processMessage: async (message) => void got.push(message.body),
      processError: async (args) => console.error(args.error),
    });
    await sender.sendMessages([{ body: 1 }, { body: 2 }]);
    for (let i = 0; i < 50 && got.length < 2; i++) await sleep(100);
    await sleep(300);
    await subscription.close();
    assert.deepEqual(got, [1, 2]);
  },
  async duplicateDetection() {
    const once = client.createSender("once");
    for (let i = 0; i < 2; i++) await once.sendMessages({ body: "d", messageId: "same" });
    const from = client.createReceiver("once", { receiveMode: "receiveAndDelete" });
    const messages = await from.receiveMessages(5, { maxWaitTimeInMs: 2000 });
    assert.equal(messages.length, 1);
  },
  async topicWithForwarding() {
    await client.createSender("news").sendMessages({ body: "n" });
    const first = client.createReceiver("news", "first");
    await first.completeMessage(await one(first));
    const sink = client.createReceiver("sink");
    await sink.completeMessage(await one(sink));
  },
  async unknownEntity() {
    const nowhere = client.createSender("nowhere").sendMessages({ body: "x" });
    await assert.rejects(nowhere, { code: "MessagingEntityNotFound" });
  },
  async sessionsAreRefused() {
    await assert.rejects(client.acceptSession("main", "s"));
  },
};

console.log(`@azure/service-bus ${require("@azure/service-bus/package.json").version}`);
let failed = 0;
for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}`);
    console.error(error);
  }
}
await client.close();
process.exit(failed ? 1 : 0);
