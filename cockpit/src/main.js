// The page: navigation, the banner of uncommitted changes, and which view is shown.
import "@xterm/xterm/css/xterm.css";
import "./style.css";
import { onClose } from "./bus.js";
import { Changes } from "./changes.js";
import { Consoles } from "./consoles.js";
import { Doctor } from "./doctor.js";
import { alert, h, setText } from "./dom.js";
import { Learn } from "./learn.js";
import { Log } from "./log.js";
import { Overview } from "./overview.js";
import { Ports } from "./ports.js";
import { Settings } from "./settings.js";
import { followTheme } from "./theme.js";

const cockpit = window.cockpit;

class App {
    constructor() {
        this.ports = new Ports();
        this.changes = new Changes(this.ports);
        this.views = {
            overview: new Overview(this.ports),
            console: new Consoles(this.ports),
            log: new Log(this.ports),
            settings: new Settings(this.ports),
            changes: this.changes,
            doctor: new Doctor(this.ports),
            learn: new Learn(this.ports),
        };
        const links = [
            ["overview", "Overview", ""],
            ["console", "Consoles", "console"],
            ["log", "Logs", "log"],
            ["settings", "Settings", "settings"],
            ["changes", "Changes", "changes"],
            ["learn", "New adapter", "learn"],
            ["doctor", "Doctor", "doctor"],
        ];
        this.links = new Map(links.map(([view, label, path]) => [view, h("a", { href: `#/${path}` }, label)]));
        this.error = h("div", {});
        this.main = h("main", { tabindex: "-1" });
        document.getElementById("app").replaceChildren(
            h("nav", { "aria-label": "Serial consoles" }, h("h1", {}, "Serial consoles"), ...this.links.values()),
            this.changes.banner,
            this.error,
            this.main,
        );
        cockpit.addEventListener("locationchanged", () => this.navigate());
        this.ports.addEventListener("change", () => this.changed());
        onClose(({ problem }) => {
            // (After "disconnected", Cockpit itself covers the page and offers to connect again.)
            if (problem !== "disconnected") this.showError(`The connection to the administration service was lost${problem ? ` (${problem})` : ""}.`, ["Reload the page", () => location.reload()]);
        });
    }

    start() {
        this.navigate();
        this.ports.start();
    }

    changed() {
        if (this.ports.error) this.showError(this.ports.error, ["Try again", () => this.ports.list()], "ports");
        else if (this.shownError === "ports") this.hideError();
        if (this.ports.loaded && !this.restored) {
            this.restored = true;
            this.views.console.restore();
            this.navigate();
            this.ports.examine();
        }
        const { sessions } = this.views.console;
        setText(this.links.get("console"), sessions.size ? `Consoles (${sessions.size})` : "Consoles");
    }

    /** `what` is what the error is of: it is hidden when that is over. */
    showError(text, [label, run], what) {
        this.shownError = what;
        this.error.replaceChildren(alert("danger", text, h("button", { onclick: run }, label)));
    }

    hideError() {
        this.shownError = null;
        this.error.replaceChildren();
    }

    navigate() {
        const { path, options } = cockpit.location;
        const view = this.views[path[0]] ? path[0] : "overview";
        for (const [name, link] of this.links) {
            if (name === view) link.setAttribute("aria-current", "page");
            else link.removeAttribute("aria-current");
        }
        const { element } = this.views[view];
        // The consoles stay on the page while another view is shown: a terminal that is removed forgets where it was scrolled to.
        const consoles = this.views.console.element;
        if (!consoles.isConnected) this.main.append(consoles);
        for (const child of [...this.main.children]) {
            if (child !== consoles && child !== element) child.remove();
        }
        consoles.hidden = view !== "console";
        if (view !== "console") this.main.prepend(element);
        if (this.shownError === "address") this.hideError();
        if (!this.ports.loaded) return;
        // A link to a port that was removed or renamed.
        if (path[1] && view !== "changes" && !this.ports.get(path[1])) this.showError(`There is no port ${path[1]}.`, ["Overview", () => cockpit.location.go([])], "address");
        if (view === "console") {
            if (path[1] && this.ports.get(path[1])) this.views.console.show(path[1]);
        } else {
            this.views[view].open?.(path[1], options);
            this.views[view].draw?.();
        }
    }
}

followTheme();
// For the tests, which measure the page.
window.consoleserver = new App();
window.consoleserver.start();
