// Why ports do not work, and what would help: `consolectl doctor`.
import { alert, h, plain, sentence } from "./dom.js";

export class Doctor {
    constructor(ports) {
        this.ports = ports;
        this.list = h("div");
        const button = (label, options, more) => {
            const made = h("button", { ...more, onclick: () => this.examine(made, options) }, label);
            return made;
        };
        this.element = h(
            "div",
            { class: "page" },
            h("h2", {}, "Doctor"),
            h("p", { class: "muted" }, "Why a port does not work, and what would help. Nothing is changed, and no port is started."),
            h(
                "div",
                { class: "actions" },
                button("Examine again", {}, { class: "primary" }),
                button("Examine as administrator", { superuser: "require" }, { title: "Root also sees which process holds a device or a TCP port, and the firewall" }),
            ),
            this.list,
        );
        ports.addEventListener("change", () => this.draw());
    }

    async examine(button, options) {
        button.disabled = true;
        await this.ports.examine(options);
        button.disabled = false;
    }

    draw() {
        if (!this.element.isConnected) return;
        const { findings, doctorError } = this.ports;
        const shown = JSON.stringify([findings, String(doctorError)]);
        if (shown === this.shown) return;
        this.shown = shown;
        if (doctorError) {
            const denied = doctorError.problem === "access-denied";
            this.list.replaceChildren(alert("danger", denied ? "This requires administrative access: select \"Limited access\" at the top of Cockpit." : sentence(doctorError)));
            return;
        }
        if (findings.length === 0) {
            this.list.replaceChildren(h("p", {}, "No problem was found."));
            return;
        }
        const titles = h("tr", {}, ...["Port", "What is wrong", "What would help"].map((title) => h("th", { scope: "col" }, title)));
        const row = ({ port, problem, fix }) =>
            h(
                "tr",
                {},
                h("th", { scope: "row" }, port ? h("a", { href: `#/settings/${encodeURIComponent(port)}` }, port) : "all ports"),
                h("td", {}, plain(problem)),
                h("td", { class: "mono" }, plain(fix)),
            );
        this.list.replaceChildren(h("table", { "aria-label": "Findings" }, h("thead", {}, titles), h("tbody", {}, ...findings.map(row))));
    }
}
