// The first minute: tests/boot/cockpit-from-bare starts it with URL. alice logs in at Cockpit, opens the console ttyUSB0 and types.
import * as chrome from "./browser.mjs";

const began = Date.now();
const lap = (what) => console.log(`          ${what} after ${Date.now() - began} ms`);
const browser = await chrome.launch();
lap("Chromium has started");
const alice = await chrome.visitor(browser, process.env.URL);
const frame = await chrome.login(alice, "alice", "secret-alice");
lap("the overview is drawn");
await frame.click('tr[data-port="ttyUSB0"] th a');
await chrome.waitForText(frame, "ttyUSB0", "for help", 30000);
await alice.page.keyboard.type("typed in a browser");
await chrome.waitForText(frame, "ttyUSB0", "typed in a browser", 30000);
lap("the device has echoed");
await browser.close();
