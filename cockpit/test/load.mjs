// Figures of the page with 48 ports, and what must hold under load: tests/boot/container.d/96-cockpit-load starts it, as 95-cockpit starts
// bed.mjs. The devices of p01 to p47 echo their input; that of p48 sends 10 MB of numbered lines when it receives "flood".
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import * as chrome from "./browser.mjs";

const { URL: url, MACHINE: machine, SHOTS: shots, ROWS: rows, SUITE: suite = "", STEPS: chosen } = process.env;
const bed = new URL("../../tests/boot/container", import.meta.url).pathname;
const inside = (...words) => execFileSync(bed, ["exec", machine, "--", ...words], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 1 << 28 });
const shell = (line) => inside("sh", "-e", "-c", line);
const row = (what, figure) => {
    console.log(`${what}: ${figure}`);
    if (rows) appendFileSync(rows, `${suite}\tcockpit: ${what}\t${figure}\n`);
};
// Of a measurement: a port that talks changes its STATUS= every 30 s.
const SECONDS = 30;
const FLOOD = 10_000_000;
const browser = await chrome.launch();
const alice = await chrome.visitor(browser, url);
// Each message of the web socket: its direction, when, and of which channel.
let received = 0;
alice.page.on("websocket", (socket) => socket.on("framereceived", () => (received += 1)));
await alice.context.addInitScript(() => {
    if (window !== window.top) return;
    window.socketTimes = [];
    const channelOf = (data) => (typeof data === "string" ? data : new TextDecoder("latin1").decode(new Uint8Array(data.buffer || data).subarray(0, 40))).split("\n")[0];
    window.WebSocket = class extends window.WebSocket {
        constructor(...words) {
            super(...words);
            this.addEventListener("message", ({ data }) => window.socketTimes.push(["<", performance.now(), channelOf(data)]));
        }
        send(data) {
            window.socketTimes.push([">", performance.now(), channelOf(data)]);
            super.send(data);
        }
    };
});
alice.frame = await chrome.login(alice, "alice", "secret-alice");
const until = (fn, argument, timeout = 30000) => alice.frame.waitForFunction(fn, argument, { timeout, polling: 50 });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (times) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)];

const steps = {
    async "48 ports are drawn"() {
        await until(() => document.querySelectorAll("tr.is-open").length === 48);
        const times = [];
        for (let round = 0; round < 5; round += 1) {
            await alice.page.reload({ waitUntil: "commit" });
            alice.frame = await chrome.frameOf(alice);
            await until(() => window.consoleserver.views.overview.drawnAt && document.querySelectorAll("tr[data-port]").length >= 48);
            times.push(await alice.frame.evaluate(() => window.consoleserver.views.overview.drawnAt));
        }
        row("48 ports: from the page's request until they are drawn, median of 5", `${Math.round(median(times))} ms`);
        // Without Cockpit's shell and the pages that it loads beside ours, in the same thread and over the same cockpit-bridge.
        const alone = await alice.context.newPage();
        const aloneTimes = [];
        for (let round = 0; round < 5; round += 1) {
            await alone.goto(`${url}/cockpit/@localhost/consoleserver/index.html`, { waitUntil: "commit" });
            await alone.waitForFunction(() => window.consoleserver?.views.overview.drawnAt && document.querySelectorAll("tr[data-port]").length >= 48, null, { polling: 50 });
            aloneTimes.push(await alone.evaluate(() => window.consoleserver.views.overview.drawnAt));
            await pause(1000);
        }
        await alone.close();
        row("48 ports: the same without Cockpit's shell and its other pages", `${Math.round(median(aloneTimes))} ms`);
        await pause(6000);
        await alice.page.screenshot({ path: `${shots}/ports48.png` });
    },

    async "an idle tab"() {
        // Processor time of everything in the machine, whose ports are silent: Cockpit, console-admin, and the processes of the poll.
        const used = () => Number(shell("sed -n 's/^usage_usec //p' /sys/fs/cgroup/cpu.stat 2>/dev/null || true") || 0);
        const client = await alice.context.newCDPSession(alice.page);
        await client.send("Performance.enable");
        const busy = async () => (await client.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value;
        // What the page reads once, doctor among it, is over.
        await pause(15000);
        // Processes that the page starts; each call on the bus is console-admin's work, which is in the machine's time.
        await alice.frame.evaluate(() => {
            const { spawn } = window.cockpit;
            window.spawned = 0;
            window.cockpit.spawn = (...words) => {
                window.spawned += 1;
                return spawn(...words);
            };
        });
        for (const [what, hidden, talking] of [["hidden", true, false], ["visible", false, false], ["visible, 48 devices talk", false, true], ["hidden, 48 devices talk", true, true]]) {
            shell(talking ? "touch /run/talk" : "rm -f /run/talk");
            await chrome.hide(alice.frame, hidden);
            // Longer than the first STATUS= of a port that has begun to talk.
            await pause(talking && !hidden ? 32000 : 4000);
            const [before, tab, spawned, messages] = [used(), await busy(), await alice.frame.evaluate(() => window.spawned), received];
            await pause(SECONDS * 1000);
            const share = (amount) => `${((100 * amount) / SECONDS).toFixed(2)} %`;
            const [thread, machineTime, processes] = [(await busy()) - tab, (used() - before) / 1e6, (await alice.frame.evaluate(() => window.spawned)) - spawned];
            row(`idle overview of 48 ports, ${what}: the tab's thread; the whole machine behind it, of a core; processes started and messages received a minute`, `${share(thread)}; ${share(machineTime)}; ${(processes * 60) / SECONDS}, ${((received - messages) * 60) / SECONDS}`);
            if (hidden) assert.equal(processes, 0, "a hidden page has started a process");
        }
        shell("rm -f /run/talk");
        await chrome.hide(alice.frame, false);
        await alice.frame.evaluate(() => delete document.hidden);
    },

    async "memory of a login"() {
        // Of everything that belongs to bob's login, at Cockpit's own page and then at ours with a console.
        const pss = () => Number(shell("for p in $(pgrep -u bob); do sed -n 's/^Pss: *\\([0-9]*\\).*/\\1/p' /proc/$p/smaps_rollup 2>/dev/null || true; done | awk '{ s += $1 } END { print s + 0 }'"));
        const first = await chrome.visitor(browser, url);
        await first.page.goto(`${url}/system/terminal`);
        await first.page.fill("#login-user-input", "bob");
        await first.page.fill("#login-password-input", "secret-bob");
        await first.page.click("#login-button");
        await first.page.waitForSelector("iframe", { state: "attached" });
        await pause(5000);
        const before = pss();
        await first.context.close();
        for (let tries = 0; pss() > 0 && tries < 60; tries += 1) await pause(1000);
        const second = await chrome.visitor(browser, url);
        const frame = await chrome.login(second, "bob", "secret-bob", "console/p03");
        await chrome.waitForText(frame, "p03", "for help");
        await pause(5000);
        row("memory of a login: at Cockpit's terminal page; at ours with a console", `${(before / 1024).toFixed(1)} MB; ${(pss() / 1024).toFixed(1)} MB`);
        await second.context.close();
    },

    async "echo"() {
        await chrome.open(alice.frame, "console/p01");
        await chrome.waitForText(alice.frame, "p01", "for help");
        // Of a console, and of a terminal of cockpit-bridge alone that sends back what it gets: as fast as it goes, and at the pace of keys.
        const [console48, bare] = await alice.frame.evaluate(async () => {
            const session = window.consoleserver.views.console.sessions.get("p01");
            const echoes = async (channel, send, pace, count) => {
                const times = [];
                for (let round = 0; round < count; round += 1) {
                    if (pace) await new Promise((resolve) => setTimeout(resolve, pace));
                    const began = performance.now();
                    await new Promise((resolve) => {
                        channel.addEventListener("message", resolve, { once: true });
                        send(Uint8Array.of(0x61));
                    });
                    times.push(performance.now() - began);
                }
                return times;
            };
            const both = async (channel, send) => [await echoes(channel, send, 0, 200), await echoes(channel, send, 50, 100)];
            const cat = window.cockpit.channel({ payload: "stream", spawn: ["sh", "-c", "stty raw -echo && echo ready && exec cat"], pty: true, binary: true });
            await new Promise((resolve) => cat.addEventListener("message", resolve, { once: true }));
            const all = [await both(session.channel, (data) => session.type(data)), await both(cat, (data) => cat.send(data))];
            cat.close();
            return all;
        });
        const local = median(JSON.parse(inside("python3", "/usr/local/bin/echo-time", "p02", "200")));
        const said = ([fast, paced]) => `${median(fast).toFixed(1)} ms, at the pace of keys ${median(paced).toFixed(1)} ms`;
        row("echo, median: by consolectl connect", `${local.toFixed(1)} ms`);
        row("echo, median: of a console in the page", said(console48));
        row("echo, median: of cat in a terminal of cockpit-bridge, without the page's terminal", said(bare));

        // Real keys, from the web socket and back to it: at Cockpit's own terminal page and at ours.
        const atKeys = async (page, keys) => {
            await page.evaluate(() => (window.socketTimes.length = 0));
            for (let key = 0; key < keys; key += 1) {
                await page.keyboard.press("a");
                await pause(50);
            }
            const messages = await page.evaluate(() => window.socketTimes.filter(([, , channel]) => channel));
            const times = [];
            messages.forEach(([way, sent, channel], index) => {
                const back = way === ">" && messages.slice(index).find(([direction, , of]) => direction === "<" && of === channel);
                if (back) times.push(back[1] - sent);
            });
            assert.ok(times.length >= keys, `${times.length} of ${keys} keys were sent back`);
            return median(times);
        };
        await alice.frame.locator(".screen textarea").first().focus();
        const ours = await atKeys(alice.page, 100);
        const other = await alice.context.newPage();
        await other.goto(`${url}/system/terminal`);
        const theirs = await (await other.waitForSelector("iframe[name*='/system/terminal']", { state: "attached" })).contentFrame();
        await theirs.locator(".terminal textarea").first().focus();
        // What its screen shows is not known: the shell has answered when the file is there.
        await other.keyboard.type("stty raw -echo; touch /tmp/echoes; exec cat\n");
        for (let tries = 0; shell("ls /tmp").includes("echoes") === false; tries += 1) {
            assert.ok(tries < 100, "Cockpit's terminal does not run a command");
            await pause(100);
        }
        const cockpits = await atKeys(other, 100);
        await other.close();
        row("echo of keys, median, at the web socket: of a console; of Cockpit's own terminal page", `${ours.toFixed(1)} ms; ${cockpits.toFixed(1)} ms`);
    },

    async "two browsers and an ssh: take-over in each direction"() {
        await chrome.open(alice.frame, "console/p01");
        await chrome.waitForText(alice.frame, "p01", "for help");
        const ssh = spawn(bed, ["exec", machine, "--", "ssh", "-tt", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i", "/root/key", "-p", shell("consolectl show p01 --json | sed 's/.*\"running\":{[^}]*\"ssh_port\":\\([0-9]*\\).*/\\1/'").trim(), "bob@127.0.0.1"]);
        let said = "";
        ssh.stdout.on("data", (data) => (said += data));
        ssh.stderr.on("data", (data) => (said += data));
        const hears = async (text) => {
            for (let tries = 0; !said.includes(text); tries += 1) {
                if (tries > 300) throw new Error(`ssh does not show ${text}: ${said}`);
                await pause(50);
            }
        };
        await hears("alice");
        ssh.stdin.write("\x05cf");
        await until(() => document.body.innerText.includes("bob: read-write"));
        said = "";
        ssh.stdin.write("by ssh");
        await chrome.waitForText(alice.frame, "p01", "by ssh");
        await alice.frame.locator("button", { hasText: /^Take over$/ }).first().click();
        await until(() => document.body.innerText.includes("alice: read-write"));
        await alice.page.keyboard.type("by browser");
        await hears("by browser");
        ssh.stdin.write("\x05c.");
        await new Promise((resolve) => ssh.on("close", resolve));
    },

    async "a flood of 10 MB"() {
        await chrome.open(alice.frame, "console/p48");
        await chrome.waitForText(alice.frame, "p48", "for help");
        await alice.frame.evaluate(() => {
            // The longest time for which a click would have waited.
            window.gaps = [];
            let last = performance.now();
            const channel = new MessageChannel();
            const tick = () => {
                const now = performance.now();
                window.gaps.push(now - last);
                last = now;
                window.gapTimer = setTimeout(() => channel.port2.postMessage(0), 5);
            };
            channel.port1.onmessage = tick;
            tick();
        });
        const began = Date.now();
        // What a click waits for, from the browser's own time of the event: input comes before timers and messages.
        await alice.frame.evaluate(() => {
            window.clicks = [];
            document.addEventListener("pointerdown", (event) => window.clicks.push(performance.now() - event.timeStamp), true);
        });
        const box = await alice.frame.locator(".session:visible header").boundingBox();
        await alice.page.keyboard.type("flood");
        const clicking = (async () => {
            for (let click = 0; click < 30; click += 1) {
                await alice.page.mouse.click(box.x + 2, box.y + 2);
                await pause(50);
            }
        })();
        await chrome.waitForText(alice.frame, "p48", "the flood is over", 120000);
        const seconds = (Date.now() - began) / 1000;
        await clicking;
        const { gap, skipped, clicks } = await alice.frame.evaluate(() => {
            clearTimeout(window.gapTimer);
            return { clicks: window.clicks, gap: Math.max(...window.gaps), skipped: window.consoleserver.views.console.sessions.get("p48").skippedTotal };
        });
        row("flood of 10 MB: duration; longest wait of a click of 30; of a timer", `${seconds.toFixed(1)} s; ${Math.round(Math.max(...clicks))} ms; ${Math.round(gap)} ms`);
        const text = await chrome.screenText(alice.frame, "p48");
        const told = [...text.matchAll(/\[([^\]]*(?:skipped|missed|dropped)[^\]]*)\]/g)].map(([, what]) => what);
        row("flood of 10 MB: skipped by the tab; what the terminal says of skipped output", `${skipped} bytes; ${told.slice(-2).join("; ") || "nothing"}`);
        if (skipped > 0) assert.match(await alice.frame.locator(".session-bar:visible").innerText(), /This tab has skipped .* of the output/);
        // Each line is in the log, once and in order.
        const [, lines, wrong] = inside("numbered-lines", "/var/log/consoleserver/p48/console.log").split(" ").map(Number);
        assert.deepEqual([lines, wrong], [FLOOD / 100, 0], "lines of the flood in the log, and those that do not follow the one before");
        // Every line that the tab has not shown is accounted for: it shows the end, and the scrollback before it.
        assert.match(text, new RegExp(`line ${FLOOD / 100 - 1} `));
    },
};

let failed = false;
for (const [name, step] of Object.entries(steps)) {
    if (chosen && !chosen.split(",").some((part) => name.includes(part))) continue;
    const began = Date.now();
    try {
        await step();
        assert.deepEqual(alice.blocked, []);
        assert.deepEqual(alice.errors, []);
        console.log(`ok: ${name} (${Date.now() - began} ms)`);
    } catch (error) {
        console.log(`does not hold: ${name}\n${error.stack}\nblocked ${JSON.stringify(alice.blocked)}, errors ${JSON.stringify(alice.errors)}`);
        await alice.page.screenshot({ path: `${shots}/failed-load.png` }).catch(() => {});
        failed = true;
        break;
    }
}
await browser.close();
process.exit(failed ? 1 : 0);
