// Consoles in tabs or tiles, which are opened again after a reload of the page or a lost connection.
import { h, setText } from "./dom.js";
import { isRunning } from "./ports.js";
import { Session } from "./terminal.js";

const cockpit = window.cockpit;
/** What the page remembers of open consoles over a reload or a lost connection; per browser tab. */
const OPEN = "consoleserver:open";
/** How often the users of a console in view that has several are read. No signal reports that another user has write access now. */
const ROSTER_MS = 1000;

/** All consoles of this tab of the browser. */
export class Consoles {
    constructor(ports) {
        this.ports = ports;
        this.sessions = new Map();
        this.current = null;
        this.tabs = h("div", { class: "tabs", role: "group", "aria-label": "Open consoles" });
        this.tiledToggle = h("button", { "aria-pressed": "false", onclick: () => this.tile(!this.tiled) }, "Tile");
        this.readerToggle = h("button", { "aria-pressed": String(localStorage.getItem("consoleserver:screen-reader") === "yes"), onclick: () => this.screenReader() }, "Screen reader");
        this.panes = h("div", { class: "panes" });
        this.empty = h("p", { class: "muted page" }, "No console is open in this tab. Open one from the overview.");
        this.element = h("div", { class: "consoles" }, h("div", { class: "console-head" }, this.tabs, h("span", { class: "grow" }), this.tiledToggle, this.readerToggle), this.empty, this.panes);
        ports.addEventListener("change", () => this.update());
        ports.addEventListener("poll", () => this.remember());
        setInterval(() => this.readRosters(), ROSTER_MS);
        // A page that is reloaded ends its sessions itself, while its messages are still delivered: cockpit-ws 287 does not do it for a
        // web socket that Chromium drops without a Close frame, and the old session would keep write access until logout.
        window.addEventListener("beforeunload", () => this.hangUp());
    }

    hangUp() {
        this.remember();
        for (const session of this.sessions.values()) {
            session.left = true;
            session.channel?.close("terminated");
        }
    }

    async readRosters() {
        if (cockpit.hidden || this.element.hidden || this.readingRosters) return;
        const shown = [...this.sessions.values()].filter((session) => !session.element.hidden && session.port?.sessions.length > 1);
        if (shown.length === 0) return;
        this.readingRosters = true;
        await Promise.all(shown.map((session) => this.ports.readPort(session.port)));
        this.readingRosters = false;
        this.update();
    }

    /** Opens those that were open when the page was left: it was reloaded, or the connection was lost. */
    restore() {
        let open;
        try {
            open = JSON.parse(sessionStorage.getItem(OPEN) || "[]");
        } catch {
            open = [];
        }
        for (const { name, received, at } of open) {
            if (this.ports.get(name)) this.show(name, { at, received });
        }
    }

    remember() {
        const open = [...this.sessions.values()]
            .filter((session) => !session.ended)
            .map(({ name }) => ({ name, received: this.ports.get(name)?.received ?? null, at: Date.now() }));
        sessionStorage.setItem(OPEN, JSON.stringify(open));
    }

    show(name, since = null) {
        let session = this.sessions.get(name);
        if (!session) {
            session = new Session(this, name, since);
            this.sessions.set(name, session);
            session.tabClose = h("button", { class: "close", onclick: () => this.leave(session) }, "×");
            session.tabButton = h("button", { "aria-controls": session.element.id, onclick: () => cockpit.location.go(["console", session.name]) });
            session.tab = h("span", { class: "tab" }, session.tabButton, session.tabClose);
            this.label(session);
            this.tabs.append(session.tab);
            this.panes.append(session.element);
            this.select(session);
            session.open();
        }
        this.select(session);
        if (!since) session.terminal.focus();
        return session;
    }

    select(session) {
        this.current = session;
        this.draw();
    }

    draw() {
        this.empty.hidden = this.sessions.size > 0;
        this.panes.classList.toggle("tiled", Boolean(this.tiled));
        for (const session of this.sessions.values()) {
            const selected = session === this.current;
            session.element.hidden = !(this.tiled || selected);
            session.tabButton.setAttribute("aria-pressed", String(selected));
            session.tab.classList.toggle("selected", selected);
        }
    }

    tile(tiled) {
        this.tiled = tiled;
        this.tiledToggle.setAttribute("aria-pressed", String(tiled));
        this.draw();
    }

    screenReader() {
        const on = localStorage.getItem("consoleserver:screen-reader") !== "yes";
        localStorage.setItem("consoleserver:screen-reader", on ? "yes" : "no");
        this.readerToggle.setAttribute("aria-pressed", String(on));
        for (const session of this.sessions.values()) session.terminal.options.screenReaderMode = on;
    }

    leave(session) {
        session.dispose();
        session.tab.remove();
        this.sessions.delete(session.name);
        this.remember();
        const next = [...this.sessions.values()].pop();
        if (next) cockpit.location.go(["console", next.name]);
        else cockpit.location.go([]);
        this.current = next || null;
        this.draw();
    }

    label(session) {
        const { name } = session;
        setText(session.tabButton, name);
        session.tabClose.title = `Leave ${name}`;
        session.tabClose.setAttribute("aria-label", `Leave ${name}`);
    }

    update() {
        for (const session of [...this.sessions.values()]) {
            const name = this.renamed(session);
            if (name) this.rename(session, name);
            session.update();
        }
    }

    /** The new name of a port whose sessions stayed when it was renamed: its unit is the same. */
    renamed({ name, unit }) {
        const { ports } = this;
        if (!unit || isRunning(ports.get(name))) return null;
        const port = [...ports.all.values()].find((other) => other.unit === unit && other.name !== name && isRunning(other));
        return port && !this.sessions.has(port.name) ? port.name : null;
    }

    rename(session, name) {
        this.sessions.delete(session.name);
        session.named(name);
        this.sessions.set(name, session);
        this.label(session);
        this.remember();
        const [view, shown] = cockpit.location.path;
        if (view === "console" && shown && session === this.current) cockpit.location.replace(["console", name]);
    }
}
