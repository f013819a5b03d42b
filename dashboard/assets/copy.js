// Copies a text to the clipboard. Browsers allow that on HTTPS and on this machine only; elsewhere the text is selected.

window.dash_clientside = Object.assign({}, window.dash_clientside, {
  modelpilotCopy: {
    copy: async (clicks, text) => {
      if (!clicks) return window.dash_clientside.no_update;
      try {
        await navigator.clipboard.writeText(text ?? "");
        return "Copied";
      } catch {
        return "The browser does not allow it: open the JSON below and copy it by hand";
      }
    },
  },
});
