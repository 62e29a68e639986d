# The commands of snaps, for login shells.
case ":${PATH}:" in
    *:/snap/bin:*) ;;
    *) PATH="${PATH}:/snap/bin" ;;
esac
