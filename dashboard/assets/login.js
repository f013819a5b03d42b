// The scheme that was chosen on the site, before anything is drawn. Without a choice the system's one counts.
(() => {
  const chosen = localStorage.getItem("mantine-color-scheme-value");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.scheme = chosen;
})();
