"""What kinds of nodes exist: their fields, what they give unasked, and their edges."""

from __future__ import annotations

from typing import NamedTuple


class Edge(NamedTuple):
    """One edge of a kind of node. `family` binds cursors: edges of one family list the same items."""

    kind: str
    listing: str
    family: str
    max_limit: int = 100
    newest_first: bool = True


POSTS = Edge("post", "posts", "posts")
ADS = Edge("ad", "ads", "ads", 500)
AD_SETS = Edge("adset", "adsets", "adsets", 500)
CAMPAIGNS = Edge("campaign", "campaigns", "campaigns", 500)
COMMENTS = Edge("comment", "comments", "comments", newest_first=False)
REACTIONS = Edge("reaction", "reactions", "reactions", newest_first=False)

EDGES: dict[str, dict[str, Edge]] = {
    "user": {
        "accounts": Edge("page", "accounts", "accounts", newest_first=False),
        "adaccounts": Edge("account", "adaccounts", "adaccounts", 500, newest_first=False),
        "posts": POSTS,
        "feed": POSTS,
        "published_posts": POSTS,
    },
    "page": {"posts": POSTS, "published_posts": POSTS, "feed": POSTS},
    "post": {"comments": COMMENTS, "reactions": REACTIONS, "likes": REACTIONS},
    "comment": {"comments": COMMENTS, "reactions": REACTIONS, "likes": REACTIONS},
    "account": {"ads": ADS, "adsets": AD_SETS, "campaigns": CAMPAIGNS},
    "campaign": {"ads": ADS, "adsets": AD_SETS},
    "adset": {"ads": ADS},
}

INSIGHT_NODES = frozenset({"account", "campaign", "adset", "ad"})

DEFAULT_FIELDS: dict[str, tuple[str, ...]] = {
    "user": ("name", "id"),
    "page": ("name", "id"),
    "accounts": ("access_token", "category", "category_list", "name", "id", "tasks"),
    "post": ("id", "created_time", "message", "story"),
    "comment": ("created_time", "from", "message", "id"),
    "reaction": ("id", "name", "type"),
    "account": ("account_id", "id"),
    "campaign": ("id",),
    "adset": ("id",),
    "ad": ("id",),
    "run": ("id", "account_id", "time_ref", "async_status", "async_percent_completion", "is_running"),
}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MARKETING = (
    "id name account_id campaign_id adset_id status effective_status configured_status created_time "
    "updated_time creative objective billing_event bid_strategy buying_type daily_budget lifetime_budget "
    "budget_remaining start_time stop_time end_time targeting tracking_specs conversion_specs "
    "conversion_domain issues_info recommendations source_ad_id source_ad preview_shareable_link "
    "ad_active_time adlabels bid_amount bid_type bid_info special_ad_category special_ad_categories "
    "promoted_object optimization_goal pacing_type last_updated_by_app_id demolink_hash display_sequence "
    "engagement_audience campaign adset ad_review_feedback campaign_active_time adset_schedule "
    "adset_active_time attribution_spec destination_type is_dynamic_creative learning_stage_info "
    "spend_cap smart_promotion_type source_campaign_id source_campaign can_use_spend_cap "
    "boosted_object_id"
)

KNOWN_FIELDS: dict[str, frozenset[str]] = {
    "user": _names("id name first_name last_name middle_name email short_name picture link gender locale"),
    "page": _names(
        "id name username category category_list about fan_count followers_count link verification_status "
        "website location were_here_count access_token tasks picture cover description emails phone hours bio "
        "is_published rating_count overall_star_rating talking_about_count new_like_count country_page_likes "
        "single_line_address global_brand_page_name business instagram_business_account "
        "connected_instagram_account perms mission founded"
    ),
    "post": _names(
        "id created_time updated_time message story permalink_url from status_type is_published is_hidden "
        "shares attachments full_picture message_tags story_tags place privacy to actions admin_creator "
        "application backdated_time call_to_action can_reply_privately event feed_targeting icon "
        "instagram_eligibility is_eligible_for_promotion is_expired is_instagram_eligible is_popular "
        "is_spherical parent_id picture promotable_id promotion_status properties scheduled_publish_time "
        "subscribed target targeting timeline_visibility video_buying_eligibility width height with_tags "
        "child_attachments coordinates expanded_height expanded_width multi_share_end_card "
        "multi_share_optimized allowed_advertising_objectives sheduled_publish_time comments_mirroring_domain "
        "sponsor_tags dynamic_posts insights sharedposts"
    ),
    "comment": _names(
        "id created_time message from parent like_count comment_count is_hidden attachment permalink_url "
        "can_comment can_hide can_like can_remove can_reply_privately is_private message_tags object "
        "private_reply_conversation user_likes application admin_creator live_broadcast_timestamp"
    ),
    "reaction": _names("id name type link pic pic_large pic_small pic_square profile_type username can_post"),
    "account": _names(
        "id account_id name account_status currency timezone_name timezone_id timezone_offset_hours_utc "
        "amount_spent balance business business_name business_city business_country_code created_time age "
        "spend_cap owner disable_reason end_advertiser funding_source funding_source_details is_personal "
        "is_prepay_account min_campaign_group_spend_cap min_daily_budget partner tax_id tax_id_status "
        "user_tasks capabilities media_agency tos_accepted line_numbers io_number is_notifications_enabled "
        "can_create_brand_lift_study failed_delivery_checks rf_spec has_migrated_permissions "
        "is_attribution_spec_system_default is_direct_deals_enabled is_tax_id_required default_dsa_payor "
        "default_dsa_beneficiary fb_entity tasks offsite_pixels_tos_accepted all_capabilities"
    ),
    "campaign": _names(_MARKETING),
    "adset": _names(_MARKETING),
    "ad": _names(_MARKETING),
    "run": _names(
        "id account_id time_ref time_completed async_status async_percent_completion is_running is_bookmarked "
        "date_start date_stop schedule_id emails friendly_name error_code error_message error_subcode "
        "error_user_title error_user_msg async_report_url is_async_export"
    ),
}

ALWAYS = {"run": ("id",)}
