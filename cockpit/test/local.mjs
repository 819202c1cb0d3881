// The page at `cockpit-ws --local-session`: tests/cockpit.rs starts it with URL, and plays the device of the port `demo`, which sends
// back what it gets, the hostile text when it gets "attack", and 30,000 lines when it gets "flood". Prints a line for each step; stops at the first that does not hold.
import assert from "node:assert/strict";
import * as chrome from "./browser.mjs";

const url = `${process.env.URL}/cockpit/@localhost/consoleserver/index.html`;
const browser = await chrome.launch();
const who = await chrome.visitor(browser, url);
const { page } = who;
const shows = async (what, fn, argument) => {
    try {
        await page.waitForFunction(fn, argument, { timeout: 20000, polling: 50 });
    } catch (error) {
        throw new Error(`the page does not show ${what}: ${error.message.split("\n")[0]}\n${(await page.evaluate(() => document.body.innerText)).slice(0, 2000)}`);
    }
};
const says = (text) => shows(`'${text}'`, (wanted) => document.body.innerText.includes(wanted), text);
const press = (label) => page.locator("button:visible, a.button:visible").filter({ hasText: new RegExp(`^${label}$`) }).first().click();

async function overview() {
    await page.goto(url);
    await shows("the port as open", () => document.querySelector('tr[data-port="demo"]')?.innerText.includes("open"));
    // A description is text: any administrator configures it, and every user sees it.
    await says('<b onmouseover="alert(1)">core</b>');
    assert.equal(await page.locator("tr b").count(), 0);
}

async function terminal() {
    await page.click('tr[data-port="demo"] th a');
    await chrome.waitForText(page, "demo", "for help", 20000);
    await page.keyboard.type("typed here");
    await chrome.waitForText(page, "demo", "typed here", 20000);
}

async function hostile() {
    const title = await page.title();
    await page.evaluate(() => {
        window.copied = [];
        navigator.clipboard.writeText = (text) => window.copied.push(text);
    });
    await page.keyboard.type("attack");
    await chrome.waitForText(page, "demo", "the attack is over", 20000);
    assert.equal(await page.title(), title, "the device has set the title");
    assert.deepEqual(await page.evaluate(() => window.copied), [], "the device has set the clipboard");
    assert.equal(await page.locator("script:not([src]), img, iframe, .screen a").count(), 0, "the device has put an element on the page");
    // A hyperlink of the device (OSC 8) leads nowhere.
    const before = who.context.pages().length;
    await page.locator(".screen").first().click();
    assert.equal(who.context.pages().length, before);
    // Its lines in the overview and in the log are text, too.
    await page.evaluate(() => window.cockpit.location.go(["log", "demo"]));
    await page.getByLabel("Lines", { exact: true }).selectOption("1000");
    await says("<script>window.owned");
    assert.equal(await page.evaluate(() => window.owned), undefined);
    await page.evaluate(() => window.cockpit.location.go([]));
    await page.evaluate(() => window.consoleserver.ports.poll());
    await says("the attack is over");
}

/** What the terminal of the port sends from now on, as text. */
async function recorded(act) {
    await page.evaluate(() => {
        const session = window.consoleserver.views.console.sessions.get("demo");
        window.typed = "";
        session.type = function (data) {
            window.typed += new TextDecoder().decode(data);
            Object.getPrototypeOf(this).type.call(this, data);
        };
    });
    await act();
    return page.evaluate(() => {
        delete window.consoleserver.views.console.sessions.get("demo").type;
        return window.typed;
    });
}

/** Ctrl+C copies what is selected, and is a key otherwise; keys that a phone or the browser does not send have buttons. */
async function keys() {
    await page.evaluate(() => window.cockpit.location.go(["console", "demo"]));
    const sent = await recorded(async () => {
        await page.locator(".screen textarea").focus();
        await page.keyboard.insertText("ä😀");
        await page.evaluate(() => {
            window.copied = null;
            document.addEventListener("copy", (event) => (window.copied = event.clipboardData.getData("text/plain")), { once: true });
            window.consoleserver.views.console.sessions.get("demo").terminal.selectAll();
        });
        await page.keyboard.press("Control+c");
        await says("Copied.");
        await page.keyboard.press("Control+c");
        await press("Keys");
        await press("Ctrl");
        await page.keyboard.type("w");
        await press("Esc");
        await press("↑");
        await page.keyboard.type("w");
        await press("Keys");
    });
    assert.equal(sent, "ä😀\x03\x17\x1b\x1b[Aw");
    assert.match(await page.evaluate(() => window.copied), /the attack is over/);
    await chrome.waitForText(page, "demo", "ä😀", 20000);
}

/** A long paste arrives whole and in order. */
async function paste() {
    const lines = Array.from({ length: 200 }, (_, number) => `set interfaces ge-0/0/${number} description "paste ${number} ${"x".repeat(60)}"`);
    await page.evaluate((text) => window.consoleserver.views.console.sessions.get("demo").terminal.paste(text), lines.join("\n") + "\nthe paste is over");
    await chrome.waitForText(page, "demo", "the paste is over", 20000);
    await page.evaluate(() => window.cockpit.location.go(["log", "demo"]));
    await page.getByLabel("Lines", { exact: true }).selectOption("1000");
    await page.getByLabel("Regular expression").fill("set interfaces");
    await press("Search");
    // (The log has a line for each CR that the device has sent back, as it has each LF.)
    await shows("200 lines that were pasted", () => document.querySelector("[role=status].muted") && /^200 lines/.test([...document.querySelectorAll(".filters [role=status]")].map((node) => node.textContent).join("")));
    const found = await page.evaluate(() => [...document.querySelectorAll(".log-lines > div")].map((node) => node.textContent));
    assert.deepEqual(found.map((line) => Number(/paste (\d+)/.exec(line)[1])), lines.map((_, number) => number));
    await page.evaluate(() => window.cockpit.location.go(["console", "demo"]));
}

/** A tab that falls behind skips output, reports that, and shows the end. */
async function behind() {
    const skipped = await page.evaluate(() => {
        const session = window.consoleserver.views.console.sessions.get("demo");
        const piece = new TextEncoder().encode(`${"y".repeat(78)}\r\n`.repeat(800));
        // All at once, as messages that have piled up: xterm.js parses none of it in between.
        for (let count = 0; count < 40; count += 1) session.output(piece);
        session.output(new TextEncoder().encode("the prompt at the end>"));
        return 40 * piece.length - (1 << 20);
    });
    await chrome.waitForText(page, "demo", "the prompt at the end>", 20000);
    assert.match(await chrome.screenText(page, "demo"), /\[this tab skipped \d+ bytes; the log has them\]/);
    await says("This tab has skipped");
    const total = await page.evaluate(() => window.consoleserver.views.console.sessions.get("demo").skippedTotal);
    assert.ok(total > 0 && total < skipped, `${total} bytes were skipped, of ${skipped} that may be`);
    await press("Close");
}

/** A search with more matches than the page shows reports that, and the page still responds. */
async function manyLines() {
    await page.evaluate(() => window.cockpit.location.go(["console", "demo"]));
    await page.locator(".screen textarea").focus();
    await page.keyboard.type("flood");
    await chrome.waitForText(page, "demo", "the flood is over", 60000);
    await page.evaluate(() => window.cockpit.location.go(["log", "demo"]));
    await page.getByLabel("Regular expression").fill("line .* of many");
    await press("Search");
    await says("30000 lines; the last 5000 are shown");
    const shown = await page.evaluate(() => [...document.querySelectorAll(".log-lines > div")].map((node) => Number(/line (\d+)/.exec(node.textContent)[1])));
    assert.deepEqual(shown, Array.from({ length: 5000 }, (_, index) => 25000 + index));
}

/** While the server does not reply, the page warns the user; Enter connects again after the session has ended. */
async function silence() {
    await page.evaluate(() => window.cockpit.location.go(["console", "demo"]));
    await page.locator(".screen textarea").focus();
    // cockpit-bridge is stopped, which the page cannot distinguish from a network that is down.
    const bridge = Number(await page.evaluate(() => new Promise((resolve, reject) => window.cockpit.spawn(["sh", "-c", "echo $PPID"]).then(resolve, reject))));
    process.kill(bridge, "SIGSTOP");
    try {
        await page.keyboard.type("typed while the network is down");
        await says("The server has not replied since");
    } finally {
        process.kill(bridge, "SIGCONT");
    }
    await chrome.waitForText(page, "demo", "typed while the network is down", 20000);
    await shows("no such sentence any more", () => !document.body.innerText.includes("has not replied"));
    await page.keyboard.press("Control+e");
    await page.keyboard.type("c.");
    await says("The session has ended");
    await page.keyboard.press("Enter");
    await shows("another session", () => !document.body.innerText.includes("The session has ended") && window.consoleserver.views.console.sessions.get("demo").channel);
    await page.keyboard.type("again here");
    await chrome.waitForText(page, "demo", "again here", 20000);
}

/** While the page is hidden it asks for nothing; when it is shown again it knows what has happened. */
async function hidden() {
    await page.evaluate(() => window.cockpit.location.go([]));
    await chrome.hide(page, true);
    const before = await page.evaluate(() => window.consoleserver.ports.get("demo").received);
    await page.evaluate(() => window.consoleserver.views.console.sessions.get("demo").type(new TextEncoder().encode("unseen")));
    await chrome.waitForText(page, "demo", "unseen", 20000);
    const sent = who.sent.length;
    // Longer than the interval of the poll.
    await page.waitForTimeout(11000);
    assert.deepEqual(who.sent.slice(sent), [], "a hidden page has asked for something");
    assert.equal(await page.evaluate(() => window.consoleserver.ports.get("demo").received), before);
    await chrome.hide(page, false);
    await shows("what was received while it was hidden", (count) => window.consoleserver.ports.get("demo").received >= count + "unseen".length, before);
}

/** A port that hangs is a row with a sentence, and the others are shown as they are. */
async function silent() {
    await shows("the port that does not answer", () => document.querySelector('tr[data-port="gone"]')?.innerText.includes("gone is not running"));
    await shows("the other one", () => document.querySelector('tr[data-port="demo"]')?.innerText.includes("open"));
}

async function settings() {
    await page.evaluate(() => window.cockpit.location.go(["settings", "demo"]));
    await shows("the settings", () => window.consoleserver.views.settings.keys);
    // The page knows each key that the daemon has a value for.
    const unknown = await page.evaluate(() => {
        const known = new Set(window.consoleserver.views.settings.fields.keys());
        return Object.keys(window.consoleserver.views.settings.keys.candidate).filter((key) => !known.has(key));
    });
    assert.deepEqual(unknown, [], "keys of the daemon that the settings page does not have: cockpit/src/keys.js");
    await page.getByLabel("Data bits").selectOption("7");
    await page.getByLabel("Log sync").fill("whenever");
    await press("Set");
    await says("expected");
    await page.getByLabel("Log sync").fill("5s");
    await press("Set");
    await says("Set: done");
    await press("Changes and commit");
    await shows("a difference", () => document.querySelector(".diff del")?.textContent === "8" && document.querySelector(".diff ins").textContent === "7");
    await press("Commit, and roll back unless confirmed within");
    await shows("a count-down", () => /^[0-5]:\d\d$/.test(document.querySelector("[role=timer]")?.textContent));
    // It continues, and does not jump back to what is read in the meantime.
    await shows("a count-down that continues", () => document.querySelector("[role=timer]").textContent <= "4:57");
    await page.evaluate(() => window.consoleserver.ports.poll(true));
    assert.ok((await page.locator("[role=timer]").innerText()) <= "4:57", "the count-down was set back");
    await press("Confirm");
    await says("No uncommitted changes");
}

/** What the page asks of D-Bus is there, with these types: an introspection is compared with what src/bus.js and others call. */
async function contract() {
    const found = await page.evaluate(async () => {
        const bus = window.cockpit.dbus("org.consoleserver1", { bus: "system" });
        const read = async (path) => (await bus.call(path, "org.freedesktop.DBus.Introspectable", "Introspect", []))[0];
        const list = (xml) => {
            const members = {};
            for (const node of new DOMParser().parseFromString(xml, "text/xml").querySelectorAll("interface > *")) {
                const args = [...node.querySelectorAll("arg")].filter((arg) => node.tagName === "signal" || arg.getAttribute("direction") === "in");
                const types = node.getAttribute("type") || args.map((arg) => arg.getAttribute("type")).join("");
                members[`${node.parentNode.getAttribute("name").split(".").pop()}.${node.getAttribute("name")}`] = types;
            }
            return members;
        };
        return { ...list(await read("/org/consoleserver1")), ...list(await read("/org/consoleserver1/port/demo")) };
    });
    const wanted = {
        "Manager.Changes": "", "Manager.Commit": "t", "Manager.CommitConfirmed": "tu", "Manager.CommitMine": "tu", "Manager.Confirm": "",
        "Manager.MayAdminister": "", "Manager.RunningPorts": "", "Manager.Reload": "", "Manager.ReloadPorts": "as", "Manager.Revert": "", "Manager.SetMany": "asa(ssv)t",
        "Manager.Unset": "sst", "Manager.UnsetMany": "a(ss)t", "Manager.Candidate": "a{sv}", "Manager.Conflicts": "as",
        "Manager.ConfirmWithin": "u", "Manager.LastCommit": "(ssu)", "Manager.Revision": "t", "Manager.Uncommitted": "u",
        "Manager.Changed": "s(ssss)ta(sss)us", "Manager.Triggered": "sss",
        "Port.Reload": "", "Port.SendBreak": "u", "Port.Sessions": "", "Port.Start": "", "Port.Stop": "", "Port.Candidate": "a{sv}",
        "Port.Committed": "a{sv}", "Port.Counters": "a{st}", "Port.Origins": "a{ss}", "Port.Running": "a{sv}", "Port.State": "s",
        "Port.Unit": "s", "Port.Users": "u",
    };
    for (const [member, types] of Object.entries(wanted)) assert.equal(found[member], types, `org.consoleserver1.${member}`);
}

let failed = false;
for (const step of [overview, silent, terminal, hostile, keys, paste, behind, silence, manyLines, hidden, settings, contract]) {
    const began = Date.now();
    try {
        await step();
        assert.deepEqual(who.blocked, [], "the content security policy has blocked something");
        assert.deepEqual(who.errors, [], "errors in the page");
        console.log(`ok: ${step.name} (${Date.now() - began} ms)`);
    } catch (error) {
        console.log(`does not hold: ${step.name}\n${error.stack}\nblocked: ${JSON.stringify(who.blocked)}\nerrors: ${JSON.stringify(who.errors)}`);
        failed = true;
        break;
    }
}
await browser.close();
process.exit(failed ? 1 : 0);
