import pytest

from addlib.faceforensics import MANIPULATIONS, discover
from addlib.faceforensics.tree import identities


def plant(root, manipulations=("Deepfakes", "FaceSwap"), raw="raw"):
    """An empty-file tree of a pair: names are all that discovery reads."""
    names = {"original_sequences/youtube": ["071", "054"]}
    names |= {f"manipulated_sequences/{name}": ["071_054", "054_071"] for name in manipulations}
    for folder, quality in ((folder, quality) for folder in names for quality in (raw, "c23", "c40")):
        (root / folder / quality / "videos").mkdir(parents=True)
        for stem in names[folder]:
            (root / folder / quality / "videos" / f"{stem}.mp4").touch()
    return root


@pytest.mark.parametrize("raw", ["raw", "c0"])
def test_whole_tree(tmp_path, raw):
    videos = discover(plant(tmp_path, MANIPULATIONS, raw))
    assert [video.manipulation for video in videos[::2]] == ["original", *MANIPULATIONS] and len(videos) == 2 * 6
    for video in videos:
        assert set(video.files) == {"raw", "c23", "c40"} and video.files["raw"].parent.parent.name == raw
        assert video.label == (video.manipulation != "original")


def test_what_is_there_is_found_and_a_subset_can_be_asked_for(tmp_path):
    plant(tmp_path)
    assert {video.manipulation for video in discover(tmp_path)} == {"original", "Deepfakes", "FaceSwap"}
    few = discover(tmp_path, ["FaceSwap"], ("raw", "c40"))
    assert {video.manipulation for video in few} == {"original", "FaceSwap"}
    assert all(set(video.files) == {"raw", "c40"} for video in few)


def test_identities_are_numbers_or_words():
    names = {"071": ("071",), "071_054": ("071", "054"), "anna_bob": ("anna", "bob"), "id0_id1__0007": ("id0", "id1")}
    assert {name: identities(name) for name in names | {"__": ()}} == names | {"__": ("__",)}
    assert identities("01_02__outside_talking_still_laughing__YVGY8LOK") == ("01", "02")


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="original_sequences"):
        discover(tmp_path)
    plant(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"FaceShifter.*holds \['Deepfakes', 'FaceSwap'\]"):
        discover(tmp_path, ["FaceShifter"])
    with pytest.raises(ValueError, match="c50"):
        discover(tmp_path, None, ("raw", "c50"))
    for names in (("Deepfakes",), ([], "raw")):
        with pytest.raises(ValueError, match=f"is {names[-1]!r}; expected a list of"):
            discover(tmp_path, *names)
    for name in ("../original_sequences", "a/b", "..", "", "original"):
        with pytest.raises(ValueError, match="no names of folders"):
            discover(tmp_path, [name])


def test_images_stand_for_a_missing_video_and_stamps_follow_the_files(tmp_path):
    youtube = plant(tmp_path) / "original_sequences/youtube"
    for quality in ("raw", "c40"):
        (youtube / quality / "images/054").mkdir(parents=True)
    (youtube / "c40/videos/054.mp4").unlink()
    video = discover(tmp_path)[0]
    assert video.files["raw"] == youtube / "raw/videos/054.mp4", "a video is taken before images of it"
    assert video.files["c40"] == youtube / "c40/images/054"
    before = video.stamps()
    assert before == video.stamps()
    (youtube / "c40/images/054/0001.png").touch()
    video.files["c23"].write_bytes(b"1")
    video.files["raw"].unlink()
    after = video.stamps()
    assert after["raw"] is None and after["c23"] != before["c23"] and after["c40"] != before["c40"]


def test_files_that_are_no_videos_are_named(tmp_path):
    raw = plant(tmp_path) / "original_sequences/youtube/raw/videos"
    (raw / "._071.mp4").touch()
    assert len(discover(tmp_path)) == 2 * 3, "macOS leaves such files: no word about them"
    (raw / "notes.txt").touch()
    with pytest.warns(UserWarning, match=r"1 files are no videos.*notes\.txt"):
        assert len(discover(tmp_path)) == 2 * 3


@pytest.mark.parametrize("ending", [".MP4", ".avi", ".mkv"])
def test_other_endings_of_videos_are_taken(tmp_path, ending):
    path = plant(tmp_path) / "original_sequences/youtube/raw/videos/054.mp4"
    path.rename(path.with_suffix(ending))
    assert discover(tmp_path)[0].files["raw"] == path.with_suffix(ending)
    path.touch()
    with pytest.raises(ValueError, match=r"054.*and 054.*remove one"):
        discover(tmp_path)


def test_actors_come_with_deepfakedetection(tmp_path):
    for name in ("original_sequences/actors 01__exit", "manipulated_sequences/DeepFakeDetection 01_02__exit__YVGY8LOK"):
        path = tmp_path / f"{name.replace(' ', '/c23/videos/')}.mp4"
        path.parent.mkdir(parents=True)
        path.touch()
    real, fake = discover(tmp_path, ["DeepFakeDetection"])
    assert (real.manipulation, real.label, real.ids) == ("actors", 0, ("01",))
    assert (fake.manipulation, fake.label, fake.ids) == ("DeepFakeDetection", 1, ("01", "02"))
    both = discover(plant(tmp_path, ("FaceSwap",)), ["FaceSwap", "DeepFakeDetection"])
    assert {video.manipulation for video in both} == {"original", "actors", "FaceSwap", "DeepFakeDetection"}
