from django.urls import URLPattern, path

from annotate.views import flags, guidelines, home, members, projects, prompts, ranking

P = "projects/<slug:slug>/"

urlpatterns: list[URLPattern] = [
    path("", home.home, name="home"),
    path("projects/new", projects.project_new, name="project_new"),
    path(P, projects.project, name="project"),
    path(P + "settings", projects.project_settings, name="project_settings"),
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
]
