// Why ports do not work, and what would help: `consolectl doctor`.
import { consolectl } from "./bus.js";
import { h, plain, sentence } from "./dom.js";

export class Doctor {
    constructor(ports) {
        this.ports = ports;
        this.list = h("div");
        this.button = h("button", { class: "primary", onclick: () => this.examine() }, "Examine again");
        this.asRoot = h("button", { onclick: () => this.examineAsRoot(), title: "Root also sees who holds a device or a TCP port, and the firewall" }, "Examine as administrator");
        this.element = h("div", { class: "page" }, h("h2", {}, "Doctor"), h("p", { class: "muted" }, "Why a port does not work, and what would help. Nothing is changed, and no port is started."), h("div", { class: "actions" }, this.button, this.asRoot), this.list);
        ports.addEventListener("change", () => this.draw());
    }

    async examine() {
        this.button.disabled = true;
        await this.ports.examine();
        this.button.disabled = false;
        this.draw();
    }

    async examineAsRoot() {
        this.asRoot.disabled = true;
        await new Promise((resolve) => {
            const parse = (text) => {
                this.ports.findings = JSON.parse(text);
                this.ports.doctorError = null;
                resolve();
            };
            consolectl(["doctor", "--json"], { superuser: "require" }).then(parse, (error, output) => {
                if (error.exit_status === 1 && output) parse(output);
                else {
                    this.ports.doctorError = error.problem === "access-denied" ? "Administrative access is needed for this: see the button at the top of the page." : error;
                    resolve();
                }
            });
        });
        this.asRoot.disabled = false;
        this.draw();
    }

    draw() {
        if (!this.element.isConnected) return;
        const { findings, doctorError } = this.ports;
        const shown = JSON.stringify([findings, String(doctorError)]);
        if (shown === this.shown) return;
        this.shown = shown;
        if (doctorError) {
            this.list.replaceChildren(h("div", { class: "alert danger", role: "alert" }, h("span", {}, sentence(doctorError))));
            return;
        }
        this.list.replaceChildren(
            findings.length
                ? h(
                      "table",
                      { "aria-label": "Findings" },
                      h("thead", {}, h("tr", {}, ...["Port", "What is wrong", "What would help"].map((title) => h("th", { scope: "col" }, title)))),
                      h("tbody", {}, ...findings.map(({ port, problem, fix }) => h("tr", {}, h("th", { scope: "row" }, port ? h("a", { href: `#/settings/${encodeURIComponent(port)}` }, port) : "all ports"), h("td", {}, plain(problem)), h("td", { class: "mono" }, plain(fix))))),
                  )
                : h("p", {}, "Nothing wrong was found."),
        );
    }
}
