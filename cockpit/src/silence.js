// Distinguishes a silent device from a silent network: what is typed while the network is down reaches the device when it is back.
const cockpit = window.cockpit;
/** After a key without any output, the server is asked whether it is there. Output within this time answers the question. */
const ASK_AFTER_MS = 2000;
/** After this long without a reply, the page warns the user. */
const TELL_AFTER_MS = 2000;

export class Silence {
    /** `changed` is called with the time since which the server has not replied, and with null when it has. */
    constructor(changed) {
        this.changed = changed;
        this.timer = null;
        this.told = false;
    }

    /** A key was sent. */
    typed() {
        if (this.timer) return;
        const since = Date.now();
        this.timer = setTimeout(() => this.ask(since), ASK_AFTER_MS);
    }

    /** Something has come from the server. */
    heard() {
        clearTimeout(this.timer);
        this.timer = null;
        if (!this.told) return;
        this.told = false;
        this.changed(null);
    }

    ask(since) {
        // cockpit-bridge sends back what an "echo" channel gets. (cockpit.js keeps the reply to a ping to itself.)
        this.probe ||= this.connect();
        this.probe.send("?");
        this.timer = setTimeout(() => {
            this.told = true;
            this.changed(since);
        }, TELL_AFTER_MS);
    }

    connect() {
        const probe = cockpit.channel({ payload: "echo" });
        probe.addEventListener("message", () => this.heard());
        probe.addEventListener("close", () => (this.probe = null));
        return probe;
    }

    close() {
        clearTimeout(this.timer);
        this.probe?.close();
    }
}
