// A real Chromium at a real Cockpit: logs in by the login page, and counts what the content security policy has blocked.
import { chromium } from "playwright-core";
import { existsSync } from "node:fs";

const CHROMIUM = process.env.CHROMIUM || ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);

export async function launch() {
    if (!CHROMIUM) throw new Error("there is no chromium: apt install chromium");
    // (--no-sandbox: the tests run as root. Nothing but our own page is loaded.)
    return chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--ignore-certificate-errors", "--disable-gpu", "--disable-dev-shm-usage"] });
}

/** A browser of its own, without a login. */
export async function visitor(browser, url, options = {}) {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    const blocked = [];
    const errors = [];
    await context.exposeBinding("reportViolation", (_source, report) => blocked.push(report));
    await context.addInitScript(() => {
        document.addEventListener("securitypolicyviolation", (event) => {
            // Only errors of our page: those of Cockpit's shell are ignored.
            if (location.pathname.includes("/consoleserver/")) {
                window.reportViolation(`${event.violatedDirective} blocked ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber}`);
            }
        });
    });
    page.on("pageerror", (error) => errors.push(error.stack || String(error)));
    page.on("console", (message) => {
        if (message.type() === "error" && message.location().url.includes("/consoleserver/")) errors.push(message.text());
    });
    // What the page sends to cockpit-ws, without the messages that only keep the connection alive.
    const sent = [];
    page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => /"command":\s*"(ping|pong)"/.test(payload) || sent.push(String(payload))));
    page.on("dialog", (dialog) => {
        errors.push(`a dialog was opened: ${dialog.message()}`);
        dialog.dismiss();
    });
    return { context, page, blocked, errors, sent, url };
}

/** Hides the page, or shows it again, as the browser does with another tab. */
export function hide(frame, hidden) {
    return frame.evaluate((value) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
        document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
}

/** Logs in by PAM at Cockpit's login page and opens the consoles; the frame of our page. */
export async function login(who, user, password, path = "") {
    const { page, url } = who;
    await page.goto(`${url}/consoleserver#/${path}`);
    await page.fill("#login-user-input", user);
    await page.fill("#login-password-input", password);
    await page.click("#login-button");
    return frameOf(who);
}

export async function frameOf(who) {
    const { page } = who;
    const element = await page.waitForSelector("iframe[name='cockpit1:localhost/consoleserver']", { state: "attached", timeout: 60000 });
    const frame = await element.contentFrame();
    // (Not by animation frames, as is the default: there are none while Cockpit does not show the frame.)
    await frame.waitForFunction(() => window.consoleserver?.ports.loaded, null, { polling: 50 });
    return frame;
}

/** What a terminal of the page shows, all lines. */
export function screenText(frame, port) {
    return frame.evaluate((name) => {
        const buffer = window.consoleserver.views.console.sessions.get(name)?.terminal.buffer.active;
        if (!buffer) return "";
        const lines = [];
        for (let row = 0; row < buffer.length; row += 1) {
            const line = buffer.getLine(row);
            if (line.isWrapped) lines[lines.length - 1] += line.translateToString(true);
            else lines.push(line.translateToString(true));
        }
        return lines.join("\n");
    }, port);
}

export async function waitForText(frame, port, text, timeout = 10000) {
    await frame.waitForFunction(
        ([name, wanted]) => {
            const buffer = window.consoleserver.views.console.sessions.get(name)?.terminal.buffer.active;
            if (!buffer) return false;
            let all = "";
            for (let row = 0; row < buffer.length; row += 1) {
                const line = buffer.getLine(row);
                all += (line.isWrapped ? "" : "\n") + line.translateToString(true);
            }
            return all.includes(wanted);
        },
        [port, text],
        { timeout, polling: 50 },
    ).catch(async (error) => {
        throw new Error(`the terminal of ${port} does not show ${JSON.stringify(text)}: ${error.message.split("\n")[0]}\n${await screenText(frame, port)}`);
    });
}

export async function open(frame, path) {
    await frame.evaluate((to) => window.cockpit.location.go(to), `/${path}`);
}
