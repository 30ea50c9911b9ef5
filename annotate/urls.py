from django.urls import URLPattern, path

from annotate.views import datasets, flags, guidelines, home, imports, members, projects, prompts, ranking, settings

P = "projects/<slug:slug>/"

urlpatterns: list[URLPattern] = [
    path("", home.home, name="home"),
    path("projects/new", projects.project_new, name="project_new"),
    path(P, projects.project, name="project"),
    path(P + "settings", settings.project_settings, name="project_settings"),
    path(P + "settings/state", settings.project_state, name="project_state"),
    path(P + "members", members.project_members, name="project_members"),
    path(P + "members/<int:pk>", members.project_member, name="project_member"),
    path(P + "guidelines", guidelines.guidelines, name="guidelines"),
    path(P + "rank", ranking.rank, name="rank"),
    path(P + "rank/<int:pk>/submit", ranking.rank_submit, name="rank_submit"),
    path(P + "rank/<int:pk>/skip", ranking.rank_skip, name="rank_skip"),
    path(P + "rank/<int:pk>/flag", ranking.rank_flag, name="rank_flag"),
    path(P + "rank/<int:pk>/draft", ranking.rank_draft, name="rank_draft"),
    path(P + "rank/<int:pk>/demonstration", ranking.rank_demonstration, name="rank_demonstration"),
    path(P + "rank/undo", ranking.rank_undo, name="rank_undo"),
    path(P + "flags", flags.flags, name="flags"),
    path(P + "flags/<int:pk>", flags.flag_settle, name="flag_settle"),
    path(P + "prompts", prompts.prompts, name="prompts"),
    path(P + "prompts/<int:pk>", prompts.prompt, name="prompt"),
    path(P + "demonstrations/<int:pk>/withdraw", prompts.demonstration_withdraw, name="demonstration_withdraw"),
    path(P + "imports", imports.imports, name="imports"),
    path(P + "imports/<int:pk>", imports.import_, name="import"),
    path(P + "imports/<int:pk>/refused.csv", imports.import_refused, name="import_refused"),
    path(P + "imports/<int:pk>/cancel", imports.import_cancel, name="import_cancel"),
    path(P + "datasets", datasets.datasets, name="datasets"),
    path(P + "datasets/<int:number>", datasets.dataset, name="dataset"),
    path(P + "datasets/<int:number>/download", datasets.dataset_download, name="dataset_download"),
    path(P + "datasets/<int:number>/cancel", datasets.dataset_cancel, name="dataset_cancel"),
]
