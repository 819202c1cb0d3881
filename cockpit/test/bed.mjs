// Tests of the page in the container bed, with real logins: tests/boot/container.d/95-cockpit starts it with
//   URL      of Cockpit
//   MACHINE  the container's name
//   SHOTS    where screenshots go
//   ROWS     the table of figures (SUITE, what, figure)
// It stops at the first step that does not hold. Nothing here depends on how fast the machine is: times are only reported.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import * as chrome from "./browser.mjs";

const { URL: url, MACHINE: machine, SHOTS: shots, ROWS: rows, SUITE: suite = "", STEPS: chosen } = process.env;
const bed = new URL("../../tests/boot/container", import.meta.url).pathname;
const inside = (...words) => execFileSync(bed, ["exec", machine, "--", ...words], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
const shell = (line) => inside("sh", "-e", "-c", line);
const row = (what, figure) => {
    console.log(`${what}: ${figure}`);
    if (rows) appendFileSync(rows, `${suite}\tcockpit: ${what}\t${figure}\n`);
};
const people = [];
let browser;

async function visitor(user, path = "", options = {}) {
    const who = await chrome.visitor(browser, url, options);
    who.user = user;
    people.push(who);
    who.frame = await chrome.login(who, user, `secret-${user}`, path);
    return who;
}
const shot = (who, name) => who.page.screenshot({ path: `${shots}/${name}.png` });
/** Waits until the page of `who` is so; `fn` runs there. */
async function until(who, what, fn, argument) {
    try {
        await who.frame.waitForFunction(fn, argument, { timeout: 15000, polling: 50 });
    } catch (error) {
        throw new Error(`${who.user}'s page: not ${what}: ${error.message.split("\n")[0]}\n${(await who.frame.evaluate(() => document.body.innerText)).slice(0, 3000)}`);
    }
}
const saysInMain = (who, text) => until(who, `'${text}'`, (wanted) => document.body.innerText.includes(wanted), text);
const rowOf = (who, port, text) => until(who, `'${text}' in the row of ${port}`, ([name, wanted]) => document.querySelector(`tr[data-port="${name}"]`)?.innerText.includes(wanted), [port, text]);
const press = (who, label) => who.frame.locator("button:visible, a.button:visible", { hasText: new RegExp(`^${label.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`) }).first().click();

const steps = {
    async "login, and typing into a console"() {
        const began = Date.now();
        const alice = await visitor("alice");
        await rowOf(alice, "ttyUSB1", "open");
        row("login until the overview is drawn", `${Date.now() - began} ms`);
        await alice.frame.click('tr[data-port="ttyUSB1"] th a');
        await chrome.waitForText(alice.frame, "ttyUSB1", "for help");
        await alice.page.keyboard.type("typed in a browser");
        await chrome.waitForText(alice.frame, "ttyUSB1", "typed in a browser");
        row("login until a console echoes", `${Date.now() - began} ms`);
        // The session is alice's, and not root's.
        const [{ users }] = JSON.parse(inside("consolectl", "status", "ttyUSB1", "--json"));
        const names = users.map((user) => (Array.isArray(user) ? user[0] : user.user));
        assert.deepEqual(names, ["alice"]);
        await shot(alice, "terminal");
    },

    async "last lines of all ports by one process, also if one of them denies its log"() {
        shell("consolectl send ttyUSB2 'for sudo only\\r' && consolectl set ttyUSB2 groups=sudo && consolectl reload ttyUSB2");
        const bob = await visitor("bob");
        await rowOf(bob, "ttyUSB1", "typed in a browser");
        const asked = () => bob.sent.filter((message) => message.includes('"-n","8"'));
        assert.equal(asked().length, 1, asked().join("\n"));
        assert.match(asked()[0], /ttyUSB1,ttyUSB2|ttyUSB2,ttyUSB1/);
        // The port that has denied it is not asked again, and the other one is.
        await bob.frame.evaluate(async () => {
            for (const port of window.consoleserver.ports.all.values()) port.lineAt = undefined;
            await window.consoleserver.ports.poll();
        });
        await waitInside("another reading", () => asked().length === 2);
        assert.ok(!asked()[1].includes("ttyUSB2"), asked()[1]);
        assert.ok(!(await bob.frame.locator('tr[data-port="ttyUSB2"]').innerText()).includes("for sudo only"));
        await bob.context.close();
        people.splice(people.indexOf(bob), 1);
        judge(bob);
        shell("consolectl revert && consolectl show ttyUSB2 >/dev/null");
    },

    async "keys reach the device as bytes, and the size of the tab its terminal"() {
        const [alice] = people;
        await chrome.open(alice.frame, "console/ttyUSB3");
        await chrome.waitForText(alice.frame, "ttyUSB3", "for help");
        await alice.page.keyboard.press("Control+Space");
        await alice.page.keyboard.type("aé€");
        await alice.page.keyboard.press("Control+c");
        await alice.page.keyboard.press("ArrowUp");
        // Every byte value, as a mouse report or a paste of a terminal may have them; without the escape prefix's first.
        await alice.frame.evaluate(() => {
            const all = Uint8Array.from({ length: 256 }, (_, value) => value).filter((value) => value !== 5);
            window.consoleserver.views.console.sessions.get("ttyUSB3").type(all);
        });
        const all = Buffer.from(Array.from({ length: 256 }, (_, value) => value).filter((value) => value !== 5));
        const wanted = Buffer.concat([Buffer.from("\0aé€\x03\x1b[A"), all]);
        await waitInside("the bytes at the device", () => Number(inside("stat", "-c", "%s", "/run/got")) >= wanted.length);
        assert.deepEqual(Buffer.from(shell("base64 /run/got"), "base64"), wanted);

        await alice.page.setViewportSize({ width: 900, height: 700 });
        const size = () => alice.frame.evaluate(() => {
            const { rows, cols } = window.consoleserver.views.console.sessions.get("ttyUSB3").terminal;
            return `${rows} ${cols}`;
        });
        const before = await size();
        await waitInside("the terminal's size", async () => shell("stty size -F /proc/$(pgrep -f '[c]onnect ttyUSB3' | head -n 1)/fd/0").trim() === (await size()));
        await alice.page.setViewportSize({ width: 1280, height: 800 });
        await until(alice, "resized", (was) => {
            const { rows, cols } = window.consoleserver.views.console.sessions.get("ttyUSB3").terminal;
            return `${rows} ${cols}` !== was;
        }, before);
        await waitInside("the terminal's size after another change", async () => shell("stty size -F /proc/$(pgrep -f '[c]onnect ttyUSB3' | head -n 1)/fd/0").trim() === (await size()));
        await press(alice, "Leave");
        await waitInside("the place to be free", () => JSON.parse(inside("consolectl", "status", "ttyUSB3", "--json"))[0].users.length === 0);
    },

    async "a reload of the page ends the old session, and the new one writes and says that it was disconnected"() {
        const [alice] = people;
        await chrome.open(alice.frame, "console/ttyUSB1");
        const sessions = () => JSON.parse(inside("consolectl", "who", "ttyUSB1", "--json"));
        const [before] = sessions();
        // Cockpit 287 forgets sessions only if they are some seconds old.
        for (let round = 0; round < 2; round += 1) {
            await alice.page.waitForTimeout(2500);
            await alice.page.reload({ waitUntil: "commit" });
            alice.frame = await chrome.frameOf(alice);
            await chrome.waitForText(alice.frame, "ttyUSB1", "for help");
            await saysInMain(alice, "This tab was disconnected at");
            await waitInside("one session, which writes", () => sessions().length === 1 && sessions()[0].writes && sessions()[0].since !== before.since);
        }
    },

    async "a session follows a port that is renamed, and back"() {
        const [alice] = people;
        await chrome.open(alice.frame, "console/ttyUSB2");
        await chrome.waitForText(alice.frame, "ttyUSB2", "for help");
        for (const [old, name] of [["ttyUSB2", "core"], ["core", "ttyUSB2"]]) {
            shell(`consolectl rename ${old} ${name} && consolectl reload ${name}`);
            await until(alice, `a tab of ${name}`, ([is, was]) => window.location.hash === `#/console/${is}` && !window.consoleserver.views.console.sessions.has(was), [name, old]);
            await chrome.waitForText(alice.frame, name, `${old} was renamed to ${name}`);
            await alice.page.keyboard.type(`typed at ${name}`);
            await chrome.waitForText(alice.frame, name, `typed at ${name}`);
        }
        assert.equal(inside("consolectl", "diff", "--json").trim(), "[]");
        await press(alice, "Leave");
    },

    async "a state change comes by a signal"() {
        const [alice] = people;
        await chrome.open(alice.frame, "");
        // What is shown from here on does not come from polling.
        await alice.frame.evaluate(() => clearInterval(window.consoleserver.ports.pollTimer));
        await rowOf(alice, "ttyUSB2", "open");
        shell("systemctl stop far-ttyUSB2.service");
        const began = Date.now();
        await rowOf(alice, "ttyUSB2", "unplugged");
        row("a device is unplugged until the page shows it", `${Date.now() - began} ms`);
        await shot(alice, "overview");
        await alice.page.reload({ waitUntil: "commit" });
        alice.frame = await chrome.frameOf(alice);
    },

    async "two browsers: who writes is shown, write access is taken over both ways, a closed tab frees the place"() {
        const [alice] = people;
        const bob = await visitor("bob", "console/ttyUSB1");
        await chrome.open(alice.frame, "console/ttyUSB1");
        await chrome.waitForText(bob.frame, "ttyUSB1", "alice");
        await saysInMain(bob, "alice: read-write");
        await saysInMain(alice, "bob: read-only");
        await press(bob, "Take over");
        await chrome.waitForText(alice.frame, "ttyUSB1", "bob");
        await saysInMain(alice, "bob: read-write");
        await bob.page.keyboard.type("from bob");
        await chrome.waitForText(alice.frame, "ttyUSB1", "from bob");
        await press(alice, "Take over");
        await saysInMain(bob, "alice: read-write");
        await alice.page.keyboard.type("alice again");
        await chrome.waitForText(bob.frame, "ttyUSB1", "alice again");
        await press(alice, "Message…");
        await alice.page.keyboard.type("back in five minutes");
        await alice.page.keyboard.press("Enter");
        await chrome.waitForText(bob.frame, "ttyUSB1", "back in five minutes");
        await bob.context.close();
        await waitInside("bob's place to be free", () => !inside("consolectl", "who", "--json").includes("bob"));
        people.splice(people.indexOf(bob), 1);
        judge(bob);
    },

    async "settings: refused with a sentence, set, shown as a difference, committed until confirmed"() {
        const [alice] = people;
        await chrome.open(alice.frame, "settings/ttyUSB1");
        await alice.frame.getByLabel("Baud rate").fill("fast");
        await press(alice, "Set");
        await saysInMain(alice, "is not a number");
        await alice.frame.getByLabel("Baud rate").fill("115200");
        await alice.frame.getByLabel("Description").fill("the core switch");
        await alice.frame.getByLabel("Output mapping").fill("wrong");
        await press(alice, "Set");
        await saysInMain(alice, "expected a list of");
        assert.equal(inside("consolectl", "diff", "--json").trim(), "[]", "a refused form has changed something");
        await alice.frame.getByLabel("Output mapping").fill("");
        await press(alice, "Set");
        await saysInMain(alice, "Set: done");
        await press(alice, "Changes and commit");
        await saysInMain(alice, "ports.ttyUSB1.baud");
        await until(alice, "a difference", () => document.querySelector(".diff del")?.textContent === "9600" && document.querySelector(".diff ins").textContent === "115200");
        await press(alice, "Commit, and roll back unless confirmed within");
        await saysInMain(alice, "unless it is confirmed");
        await until(alice, "counting down", () => /^[0-5]:\d\d$/.test(document.querySelector("[role=timer]")?.textContent));
        await shot(alice, "confirm");
        await press(alice, "Roll back now");
        await until(alice, "rolled back", () => !document.querySelector("[role=timer]"));
        await saysInMain(alice, "ports.ttyUSB1.baud");
        await press(alice, "Commit, and roll back unless confirmed within");
        await saysInMain(alice, "unless it is confirmed");
        await press(alice, "Confirm");
        await saysInMain(alice, "No uncommitted changes");
        const committed = inside("cat", "/etc/consoleserver/config.toml");
        assert.match(committed, /115200/);
        assert.match(committed, /the core switch/);
    },

    async "what another client changes is shown, and by whom"() {
        const [alice] = people;
        await chrome.open(alice.frame, "settings/ttyUSB3");
        await alice.frame.getByLabel("Idle timeout").fill("600");
        inside("consolectl", "set", "ttyUSB3", "timeout=300");
        await saysInMain(alice, "is not committed (root: 1)");
        await shot(alice, "settings");
        await chrome.open(alice.frame, "changes");
        await saysInMain(alice, "root");
        await press(alice, "Revert all");
        await saysInMain(alice, "No uncommitted changes");
    },

    async "logs: lines, a search, what is added, a day's activity"() {
        const [alice] = people;
        await chrome.open(alice.frame, "log/ttyUSB1");
        await saysInMain(alice, "alice again");
        await until(alice, "the activity", () => document.querySelectorAll(".heat button").length === 144);
        await alice.frame.getByLabel("Regular expression").fill("from b[o]b");
        await press(alice, "Search");
        await until(alice, "one line found", () => document.querySelectorAll(".log-lines > div").length === 1);
        await press(alice, "Follow");
        await saysInMain(alice, "alice again");
        inside("consolectl", "send", "--force", "ttyUSB1", "added later\\r");
        await saysInMain(alice, "added later");
        await press(alice, "Follow");
        const [download] = await Promise.all([alice.page.waitForEvent("download"), press(alice, "Download")]);
        assert.match(readFileSync(await download.path(), "utf8"), /added later/);
        await shot(alice, "log");
    },

    async "bob sees everything and changes nothing; eve has no console"() {
        const bob = await visitor("bob", "settings/ttyUSB3");
        await saysInMain(bob, "Read-only: changes require");
        await bob.frame.getByLabel("Idle timeout").fill("60");
        await press(bob, "Set");
        await saysInMain(bob, "Set: ");
        const said = await bob.frame.locator(".alert.danger").innerText();
        row("what bob reads", said);
        assert.match(said, /sudo|permission|allowed|may not/i);
        assert.equal(inside("consolectl", "diff", "--json").trim(), "[]");
        await bob.context.close();
        people.splice(people.indexOf(bob), 1);
        judge(bob);

        const eve = await visitor("eve");
        await rowOf(eve, "ttyUSB1", "open");
        await chrome.open(eve.frame, "console/ttyUSB1");
        await saysInMain(eve, "the last line says why");
        assert.ok(!inside("consolectl", "who", "--json").includes("eve"));
        await chrome.open(eve.frame, "log/ttyUSB1");
        await until(eve, "a refusal", () => document.querySelector(".alert.danger"));
        assert.ok(!(await eve.frame.evaluate(() => document.querySelector(".log-lines").innerText)).includes("alice"));
        await eve.context.close();
        people.splice(people.indexOf(eve), 1);
        judge(eve);
    },

    async "doctor, and no serious finding of axe-core on any page, light or dark"() {
        const [alice] = people;
        await chrome.open(alice.frame, "doctor");
        // The device of ttyUSB2 has gone.
        await press(alice, "Examine again");
        await until(alice, "a finding with its fix", () => [...document.querySelectorAll("table[aria-label=Findings] tbody tr")].some((row) => row.cells[0].innerText === "ttyUSB2" && row.cells[1].innerText && row.cells[2].innerText));
        const axe = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
        for (const style of ["light", "dark"]) {
            await alice.frame.evaluate((chosenStyle) => {
                localStorage.setItem("shell:style", chosenStyle);
                window.dispatchEvent(new CustomEvent("cockpit-style", { detail: { style: chosenStyle } }));
            }, style);
            for (const path of ["", "console/ttyUSB1", "log/ttyUSB1", "settings/ttyUSB1", "changes", "learn", "doctor"]) {
                await chrome.open(alice.frame, path);
                if (path.startsWith("console")) await chrome.waitForText(alice.frame, "ttyUSB1", "for help");
                // (Evaluated by the debugger, which the policy does not hold up.)
                const found = await alice.frame.evaluate(async (source) => {
                    if (!window.axe) (0, eval)(source);
                    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
                    return violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).slice(0, 3).join(" ")}`);
                }, axe.replace(/^/, "")).catch((error) => [`axe did not run: ${error.message}`]);
                assert.deepEqual(found, [], `${path || "overview"} (${style})`);
            }
            if (style === "dark") {
                await chrome.open(alice.frame, "");
                await shot(alice, "dark");
            }
        }
        await alice.page.setViewportSize({ width: 390, height: 844 });
        await until(alice, "no wider than a phone", () => document.documentElement.scrollWidth <= window.innerWidth);
        await shot(alice, "phone");
        await alice.page.setViewportSize({ width: 1280, height: 800 });
    },
};

async function waitInside(what, isSo) {
    const end = Date.now() + 15000;
    for (;;) {
        let last;
        try {
            if (await isSo()) return;
        } catch (error) {
            last = error;
        }
        if (Date.now() > end) throw new Error(`waited for ${what}${last ? `: ${last.message}` : ""}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

/** Nothing was blocked by the content security policy, and no script has failed. */
function judge(who) {
    assert.deepEqual(who.blocked, [], `the content security policy of ${who.user}'s page has blocked something`);
    assert.deepEqual(who.errors, [], `errors in ${who.user}'s page`);
}

browser = await chrome.launch();
let failed = false;
for (const [name, step] of Object.entries(steps)) {
    if (chosen && !chosen.split(",").some((part) => name.includes(part))) continue;
    const began = Date.now();
    try {
        await step();
        people.forEach(judge);
        console.log(`ok: ${name} (${Date.now() - began} ms)`);
    } catch (error) {
        console.log(`does not hold: ${name}\n${error.stack}`);
        for (const who of people) {
            console.log(`${who.user}: blocked ${JSON.stringify(who.blocked)}, errors ${JSON.stringify(who.errors)}`);
            await shot(who, `failed-${who.user}`).catch(() => {});
        }
        failed = true;
        break;
    }
}
await browser.close();
process.exit(failed ? 1 : 0);
